"""The frozen recipe: scikit-learn's logistic regression, folded into one linear head."""

from pathlib import Path

import numpy as np
import pytest
import torch
from decoder_models import CONFIGS, lively
from decoder_models import text as ids_of
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from groundup.finetune.classify import features
from groundup.finetune.classify.config import Balance
from groundup.finetune.classify.features import cache_file, hidden_features
from groundup.finetune.classify.frozen import fit_head, head_probabilities, undersample


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("balance", ["none", "weighted"])
def test_the_head_computes_what_scikit_learn_computes(n_classes: int, balance: Balance) -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(n_classes, size=90) * (rng.random(90) < 0.7)
    states = (rng.normal(size=(90, 12)) + targets[:, None] * 0.5).astype(np.float32)
    states[:, 3] = 7.0  # constant
    states[:, 4] = states[:, 4] * 1e-3 + 50  # far from zero, as the outliers of language models
    head = fit_head(states, targets.tolist(), n_classes, C=0.1, balance=balance)
    weight = "balanced" if balance == "weighted" else None
    logistic = LogisticRegression(C=0.1, max_iter=2000, class_weight=weight)
    expected = make_pipeline(StandardScaler(), logistic).fit(states.astype(np.float64), targets)
    np.testing.assert_allclose(
        head_probabilities(head, states), expected.predict_proba(states.astype(np.float64)),
        atol=1e-5,
    )  # fmt: skip


def test_undersampling_gives_every_class_the_same_number() -> None:
    labels = ["a"] * 9 + ["b"] * 3 + ["c"] * 4
    kept = undersample(range(16), labels, seed=1)
    assert [sum(labels[row] == name for row in kept) for name in "abc"] == [3, 3, 3]
    assert kept == sorted(set(kept))
    assert kept == undersample(range(16), labels, seed=1) != undersample(range(16), labels, seed=2)


def test_states_are_computed_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively(CONFIGS["llama"])
    rows = [ids_of(n, seed=n) for n in (3, 20, 33, 3)]
    file = cache_file(tmp_path, "abc", pooling="mean+last", max_tokens=48, dtype="fp32")
    n_tokens: list[int] = []

    def run(texts: list[list[int]]) -> np.ndarray:
        return hidden_features(
            model, texts, pooling="mean+last", dtype=torch.float32, file=file,
            on_tokens=lambda done, total: n_tokens.append(total),
        )  # fmt: skip

    first = run(rows)
    hidden = model.hidden(torch.tensor([rows[1]]))[0].detach()
    expected = torch.cat([hidden.mean(dim=0), hidden[-1]])
    torch.testing.assert_close(torch.from_numpy(first[1]), expected)
    assert set(n_tokens) == {56}, "a repeated text is computed once"
    n_tokens.clear()
    assert np.array_equal(run(rows[::-1]), first[::-1])
    assert not n_tokens
    more = run([*rows, ids_of(5, seed=9)])
    assert set(n_tokens) == {5}
    assert np.array_equal(more[:4], first)
    file.write_bytes(b"damaged")
    assert np.array_equal(run(rows), first)


def test_what_an_interrupted_command_computed_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = lively(CONFIGS["llama"])
    rows = [ids_of(n, seed=n) for n in (3, 20, 33)]
    monkeypatch.setattr(features, "_SAVE_EVERY_S", 1e9)

    def stop(done: int, total: int) -> None:
        totals.append(total)
        if total == 56 and done == 23:
            raise KeyboardInterrupt

    totals: list[int] = []
    for _ in range(2):
        try:
            hidden_features(
                model, rows, pooling="last", dtype=torch.float32, file=tmp_path / "a.safetensors",
                on_tokens=stop,
            )  # fmt: skip
        except KeyboardInterrupt:
            totals.append(0)
    assert totals == [56, 56, 0, 33]
