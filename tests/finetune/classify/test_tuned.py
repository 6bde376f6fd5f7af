"""The tuned recipes: what is trained and cached, and the same weights after an interruption."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from decoder_models import CONFIGS, lively
from decoder_models import text as ids_of
from small_runs import KilledError, kill_at

from groundup.base.errors import UserError
from groundup.finetune.batches import RowBatches, label_row
from groundup.finetune.classify import tuned
from groundup.finetune.classify.classifier import load_classifier
from groundup.finetune.classify.classify import classify
from groundup.finetune.classify.config import ClassifyConfig, Method
from groundup.finetune.classify.heads import Classifier
from groundup.finetune.classify.lower_blocks import (
    StateBatches,
    entering_states,
    lower_part,
    states_bytes,
    upper_states,
)
from groundup.finetune.classify.tuned import choose_weights, class_weights
from groundup.finetune.job import FineTuning
from groundup.finetune.plan import count_tokens
from groundup.finetune.training import Trained, fine_tune
from groundup.weights.checkpoint_format import load_tensors

WORDS = "log mat cat dog sat the on and".split()  # noqa: SIM905


@pytest.fixture
def config(run: Path) -> ClassifyConfig:
    rows = []
    for i in range(120):
        middle = " ".join(WORDS[(i * k) % 8] for k in (3, 5, 7))
        rows.append(f"{'ab'[i % 2]}\t{'the cat' if i % 2 else 'a dog'} {middle} {i}")
    labels = run.parent / "animals.tsv"
    labels.write_text("\n".join(rows))
    return ClassifyConfig(
        run=run, method="all", labels=labels, steps=8, batch_size=8, threads=1,
        split="random", learning_rate=3e-3, checkpoint_every=2, validate_every=4,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["ours", "llama", "gpt2", "n-grams", "window in one layer"])
def test_lower_and_upper_blocks_are_the_model(name: str) -> None:
    model = lively(CONFIGS[name])
    ids = torch.tensor([ids_of(20), ids_of(20, seed=4)])
    states = lower_part(model, 1).hidden(ids)
    torch.testing.assert_close(upper_states(model, states, 1), model.hidden(ids))
    assert len(model.blocks) == 2, "the model itself is unchanged"


def test_the_last_blocks_are_computed_again_with_activation_checkpointing() -> None:
    model = lively(CONFIGS["llama"]).requires_grad_(requires_grad=True)
    states, calls = torch.randn(1, 5, model.config.d_model), []
    model.blocks[1].register_forward_pre_hook(lambda *_: calls.append(1))
    grads = []
    for model.activation_checkpointing in (False, True):
        model.zero_grad()
        upper_states(model, states, 1).sum().backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.blocks[1].parameters()]))
    assert torch.equal(*grads)
    assert len(calls) == 3, "once, and then twice"


def test_states_are_kept_and_their_batches_are_those_of_the_rows(tmp_path: Path) -> None:
    model = lively(CONFIGS["llama"])
    texts = [ids_of(n, seed=n) for n in (5, 9, 17, 6)]
    rows = [label_row(ids, k % 2) for k, ids in enumerate(texts)]
    file = tmp_path / "states.safetensors"
    first = entering_states(model, texts, 1, dtype=torch.float32, file=file)
    model.requires_grad_(False)
    for parameter in model.parameters():
        parameter.zero_()
    again = entering_states(model, texts, 1, dtype=torch.float32, file=file)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True)), "read, not computed"
    batches = StateBatches(first, rows, 2, seed=3)
    plain = RowBatches(rows, 2, seed=3, sort_by_length=True)
    for k in range(4):
        states, targets = batches.batch(k)
        ids, expected = plain.batch(k)[:2]
        assert torch.equal(targets, expected)
        number = next(n for n, t in enumerate(texts) if ids[0, : len(t)].tolist() == t)
        assert torch.equal(states[0, : len(texts[number])], first[number])
        assert count_tokens((states, targets)) == count_tokens((ids, expected))


def test_one_file_of_states_is_kept_and_they_must_fit_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = lively(CONFIGS["llama"])
    for name, n in (("blocks-1", 5), ("blocks-2", 9)):
        file = tmp_path / f"{name}.safetensors"
        entering_states(model, [ids_of(n, seed=n)], 1, dtype=torch.float32, file=file)
    assert [path.stem for path in tmp_path.iterdir()] == ["blocks-2"]
    n_bytes = states_bytes(model, [ids_of(9, seed=9)], torch.float32)
    assert n_bytes == 9 * model.config.d_model * 4 < file.stat().st_size < n_bytes + 200
    place = "groundup.finetune.classify.lower_blocks.usable_memory_bytes"
    monkeypatch.setattr(place, lambda device: n_bytes - 1)
    with pytest.raises(UserError, match="hidden states that enter the trained blocks") as caught:
        entering_states(model, [ids_of(9, seed=9)], 1, dtype=torch.float32, file=file)
    assert caught.value.settings == {"method": "lora"}


@pytest.mark.parametrize(
    ("method", "trained"),
    [
        ("last", {"gpt.blocks.1", "gpt.final_norm", "head"}),
        ("lora", {"gpt.blocks.0", "gpt.blocks.1", "head"}),
    ],
)
def test_only_what_the_method_names_is_trained(method: Method, trained: set[str]) -> None:
    classifier = Classifier(lively(CONFIGS["llama"]), ["x", "y"])
    more: dict[str, Any] = {"last_blocks": 1} if method == "last" else {}
    choose_weights(classifier, ClassifyConfig(method=method, **more))
    names = {name for name, p in classifier.named_parameters() if p.requires_grad}
    assert {name.rsplit(".", 1)[0].split(".attention")[0].split(".mlp")[0] for name in names} == (
        trained
    )
    if method == "lora":
        assert all("lora_" in name or name.startswith("head") for name in names)


def test_more_blocks_than_the_model_has_are_refused() -> None:
    classifier = Classifier(lively(CONFIGS["llama"]), ["x", "y"])
    with pytest.raises(UserError, match="last_blocks is 3, and the model has 2 blocks"):
        choose_weights(classifier, ClassifyConfig(method="last", last_blocks=3))


def test_class_weights_have_a_mean_of_one() -> None:
    targets = [0, 0, 0, 1]
    weights = class_weights(targets, 2, ClassifyConfig(balance="weighted"))
    assert weights.tolist() == pytest.approx([2 / 3, 2.0])
    assert sum(float(weights[t]) for t in targets) == pytest.approx(4.0)


@pytest.mark.parametrize("method", ["last", "lora", "all"])
def test_a_tuned_classifier_resumes_to_the_same_weights(
    method: Method, config: ClassifyConfig
) -> None:
    more: dict[str, Any] = {"last_blocks": 1} if method == "last" else {}
    config = replace(config, method=method, **more)
    with pytest.raises(KilledError):
        classify(config, on_step=kill_at(5))
    folder = Path(str(config.run)) / "classifier"
    assert not (folder / "labels.json").exists()
    resumed = classify(config)
    assert resumed.folder == folder
    assert resumed.trained is not None
    assert resumed.trained.resumed_from_step == 4
    whole = classify(config)
    assert whole.folder == folder.with_name("classifier-2")
    for name in ("model.safetensors", "head.safetensors"):
        a, b = load_tensors(resumed.folder / name), load_tensors(whole.folder / name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a), name
    assert resumed.trained.first_validation_loss_nats == pytest.approx(0.6931, abs=1e-3)
    assert [model.name for model in resumed.models][-2:] == [
        "frozen + TF-IDF",
        {"last": "last-block model", "lora": "LoRA model", "all": "tuned model"}[method],
    ]
    loaded = load_classifier(folder)
    found = loaded.probabilities([p.text for p in resumed.predictions]).max(dim=1).values
    expected = torch.tensor([p.probability for p in resumed.predictions], dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_baselines_and_frozen_scores_come_before_the_training(config: ClassifyConfig) -> None:
    seen: list[str] = []
    classify(
        replace(config, method="all", steps=2),
        on_step=lambda step: seen.append("step"),
        on_scores=lambda models: seen.append(models[-1].name),
    )
    assert seen == ["frozen model", "step", "step"]


def test_a_budget_begins_with_the_command_and_reserves_time_for_the_test(
    config: ClassifyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[FineTuning] = []

    def kept(job: FineTuning, *args: Any, **more: Any) -> Trained:
        jobs.append(job)
        return fine_tune(job, *args, **more)

    monkeypatch.setattr(tuned, "fine_tune", kept)
    began_at = time.monotonic()
    classify(replace(config, steps=2, budget="60s"))
    assert jobs[0].started_at == pytest.approx(began_at, abs=0.5)
    assert jobs[0].after_s > 0
