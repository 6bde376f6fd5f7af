"""Pretraining on separate documents and on mixtures: what is trained, resumed and recorded."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import (
    MODEL,
    KilledError,
    assert_same_weights,
    kill_at,
    make_documents,
    messages,
    settings,
)

from groundup.base.config import from_mapping, read_recipe
from groundup.base.dependents import runs_on
from groundup.base.errors import UserError
from groundup.base.fields import replace_settings
from groundup.base.run import RunFolder
from groundup.data.config import LedgerConfig
from groundup.data.ledger import account, ledger
from groundup.data.store import TokenStore
from groundup.data.windows import Windows
from groundup.evaluation.evaluate import evaluate
from groundup.evaluation.load import load
from groundup.planning.config import PlanConfig
from groundup.planning.plan import plan
from groundup.pretraining.compare import compare
from groundup.pretraining.doctor import doctor
from groundup.pretraining.pretrain import pretrain
from groundup.train.build import prepare_training
from groundup.train.config import PretrainConfig
from groundup.train.data import open_texts, training_windows

LETTERS = "abcdefghijklmnopqrstuvwxyz "
STILL = MODEL.__class__(**{**vars(MODEL), "dropout": 0.0})
SEPARATE = ("isolated", "packed", "padded")


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    return make_documents(tmp_path / "data", messages(1), messages(2, 20), ended=True)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Two data folders with the same tokenizer."""
    for seed, name in enumerate("ab", start=1):
        folder = tmp_path / name
        make_documents(folder, messages(seed, 40), messages(seed + 5, 15), letters=LETTERS)
    return tmp_path


def mixed(texts: Path, **changes) -> PretrainConfig:
    mix = (f"{texts / 'a'}=3,{texts / 'b'}=1",)
    usual = {"data": PretrainConfig().data, "out": texts / "run", "mix": mix}
    return replace_settings(settings(texts / "a"), **{**usual, **changes})


def losses(run: Path) -> list[float]:
    return [row["loss_nats"] for row in RunFolder(run).read_metrics()]


def alone_nats(model, store: TokenStore) -> tuple[float, int]:
    """The loss of every prediction inside a document, each document cut as it is packed."""
    starts = [*store.document_starts.tolist(), store.n_tokens]
    total, n, T = 0.0, 0, model.config.context_length
    for first, stop in zip(starts, starts[1:], strict=False):
        for begin in range(first, stop - 1, T):
            ids = torch.from_numpy(store.read(begin, min(stop, begin + T + 1)).astype(np.int64))
            logits = model(ids[None, :-1])[0]
            total += torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum").item()
            n += len(ids) - 1
    return total, n


@pytest.mark.parametrize(
    ("documents_are", "coverage", "column"),
    [
        ("stream", "book", "book's loader"),
        ("stream", "exact", "exact"),
        ("isolated", "exact", "isolated"),
        ("packed", "book", "packed"),
        ("padded", "book", "padded"),
    ],
)
def test_the_ledger_counts_what_is_trained(tmp_path, documents_are, coverage, column):
    documents = make_documents(tmp_path / "data", messages(1, 20), messages(2, 9), ended=True)
    config = settings(documents, documents=documents_are, coverage=coverage, batch_size=1)
    windows = training_windows(config, open_texts(config.texts))
    assert isinstance(windows, Windows)
    counts = ledger(LedgerConfig(data=documents, context_length=16, stride=16)).columns[column]
    assert counts.n_windows == len(windows)
    shape = {"d_model": 4, "n_layers": 1, "n_heads": 1, "checkpoint_every": 1000}
    steps = {"steps": len(windows), "validate_every": None, "sample_every": None}
    result = pretrain(replace_settings(config, **shape, **steps))
    assert result.n_targets == counts.ledger.n_trainings
    planned = plan(as_plan(replace_settings(config, steps=len(windows))))
    assert planned.n_targets == counts.ledger.n_trainings
    assert planned.n_passes == pytest.approx(1.0)


def as_plan(config: PretrainConfig) -> PlanConfig:
    return replace_settings(PlanConfig(), **vars(config), probe_s=0.05)


@pytest.mark.parametrize("documents_are", ["isolated", "packed"])
def test_killed_and_resumed_ends_with_the_same_weights(documents, documents_are):
    config = settings(documents, documents=documents_are)
    whole = pretrain(replace_settings(config, out=documents.parent / "whole"))
    with pytest.raises(KilledError):
        pretrain(config, kill_at(9))
    result = pretrain(config)
    assert result.resumed_from_step > 0
    assert_same_weights(whole.run, result.run)
    assert result.n_targets == whole.n_targets


@pytest.mark.parametrize("documents_are", SEPARATE)
def test_validation_and_evaluation_see_documents_alone(documents, documents_are):
    changes = {"documents": documents_are, "validation_windows": 1000, "dtype": "fp32"}
    result = pretrain(settings(documents, **changes, steps=3, sample_every=None))
    found = evaluate(run=result.run)
    assert found.nats == pytest.approx(result.validation_loss_nats, abs=1e-5)
    assert found.documents == documents_are
    language_model = load(result.run)
    store = TokenStore.open(documents / "validation")
    if documents_are != "isolated":
        total, n = alone_nats(language_model.model, store)
        assert (found.n_targets, found.nats) == (n, pytest.approx(total / n, abs=1e-5))
    assert found.n_targets == store.n_tokens - store.n_documents
    # Each target has one byte, but the end of each document has none.
    assert found.n_bytes == found.n_targets - store.n_documents
    with pytest.raises(UserError, match="documents='isolated'"):
        evaluate(run=result.run, documents="packed", stride=8)
    stream = evaluate(run=result.run, documents="stream")
    assert stream.n_targets == store.n_tokens - 1
    readme = (result.run / "README.md").read_text()
    assert "document mask" in readme or "one document, and padding" in readme
    assert ("are longer than 16 tokens and are cut into pieces" in readme) == (
        documents_are != "isolated"
    )
    assert not doctor(run=result.run).skipped.keys() & {"next-token targets", "enough text"}


def test_parts_of_a_batch_change_nothing(documents):
    config = settings(documents, documents="isolated", model=STILL, dtype="fp32", steps=6)
    curves = []
    for n in (1, 4):
        out = documents.parent / str(n)
        config = replace_settings(config, out=out, grad_accumulation_steps=n)
        curves.append(losses(pretrain(config).run))
    assert curves[1] == pytest.approx(curves[0], abs=5e-5)


def test_a_budget_chooses_for_separate_documents(documents, monkeypatch):
    from groundup.planning import budget
    from groundup.planning.throughput import Speed

    monkeypatch.setattr(budget, "probe", lambda *_, **__: Speed(step_s=0.5, window_s=0.01))
    config = PretrainConfig(data=documents, budget="60s", documents="packed")
    assert budget.choose(config, open_texts(config.texts), 60.0).documents == "packed"


@pytest.mark.parametrize(
    "documents_are", [pytest.param("stream", marks=pytest.mark.slow), "isolated"]
)
def test_a_mixture_is_trained_validated_and_resumed(texts, documents_are):
    config = mixed(texts, documents=documents_are, coverage="exact", compile="off")
    setup = prepare_training(config, open_texts(config.texts))
    parts = [TokenStore.open(texts / name / "validation") for name in "ab"]
    with torch.no_grad():
        weighted = setup.validate(10_000)
    single = [
        prepare_training(
            replace_settings(config, mix=(), data=texts / name), open_texts([(texts / name, 1.0)])
        ).validate(10_000)
        for name in "ab"
    ]
    assert weighted == pytest.approx(0.75 * single[0] + 0.25 * single[1], abs=1e-6)
    whole = pretrain(replace_settings(config, out=texts / "whole"))
    with pytest.raises(KilledError):
        pretrain(config, kill_at(7))
    result = pretrain(config)
    assert result.resumed_from_step > 0
    assert_same_weights(whole.run, result.run)
    again = from_mapping(PretrainConfig, read_recipe(result.run / "config.toml"))
    assert replace_settings(again, model=config.model) == config
    manifest = json.loads((result.run / "manifest.json").read_text())
    assert [text["weight"] for text in manifest["mix"]] == [0.75, 0.25]
    assert manifest["validation_fingerprint"] == parts[0].fingerprint
    readme = (result.run / "README.md").read_text()
    assert "(75% of the windows)" in readme
    for name in "ab":
        assert set(runs_on(texts / name)) == {whole.run, result.run}
    found = evaluate(run=result.run)
    assert (found.data, found.other_data) == (str(texts / "a"), (str(texts / "b"),))
    assert not doctor(run=result.run).skipped.keys() & {"validation leak", "vocabulary"}


def test_the_windows_of_a_mixture_have_its_weights(texts):
    config = mixed(texts, documents="packed")
    setup = prepare_training(config, open_texts(config.texts))
    counts = setup.loader.windows.taken(12 * 4).tolist()
    assert counts == [36, 12]
    result = plan(as_plan(config))
    n = [len(part) for part in setup.loader.windows.parts]
    wanted = [36 / n[0], 12 / n[1]]
    assert list(result.passes.values()) == pytest.approx(wanted)
    assert result.n_passes == pytest.approx(max(wanted))
    targets = [account(part, 1).n_trainings for part in setup.loader.windows.parts]
    wanted_targets = sum(t * p for t, p in zip(targets, wanted, strict=True))
    assert result.n_targets == pytest.approx(wanted_targets, abs=1)
    assert math.isfinite(result.last_loss_nats[1])


def test_runs_with_other_validation_targets_are_not_ranked(documents):
    runs = [
        pretrain(settings(documents, documents=each, out=documents.parent / each, steps=1)).run
        for each in ("stream", "packed", "padded")
    ]
    assert not compare(runs[0], runs[1], out=documents.parent / "a.svg").same_loss
    assert compare(runs[1], runs[2], out=documents.parent / "b.svg").same_loss


def test_texts_that_cannot_be_separated_or_mixed(texts, tmp_path):
    one = make_documents(tmp_path / "one", ["the fox and the dog"], ["the fox"], letters=LETTERS)
    for each in SEPARATE:
        with pytest.raises(UserError, match=r"one document.*documents='stream'"):
            pretrain(settings(one, documents=each))
    short = make_documents(tmp_path / "short", list("the fox runs to the dog"), ["the fox"])
    for each in SEPARATE:
        with pytest.raises(UserError, match=r"No document has two tokens.*documents='stream'"):
            pretrain(settings(short, documents=each))
    flat = make_documents(tmp_path / "flat", messages(1), list("the fox runs to a dog"))
    with pytest.raises(UserError, match="flat/validation: No document has two tokens"):
        pretrain(settings(flat, documents="packed"))
    other = make_documents(tmp_path / "other", messages(3), messages(4), letters="XYZ")
    config = replace_settings(mixed(texts), mix=(f"{texts / 'a'}=1", f"{other}=1"))
    with pytest.raises(UserError, match=r"another tokenizer than .*a, with which"):
        pretrain(config)
    (texts / "link").symlink_to(texts / "a")
    with pytest.raises(UserError, match="in the mixture twice"):
        pretrain(replace_settings(config, mix=(f"{texts / 'a'}=1", f"{texts / 'link'}=1")))
    with pytest.raises(UserError, match="none: This data folder does not exist"):
        pretrain(replace_settings(config, mix=(f"{texts / 'a'}=1,{texts / 'none'}=1",)))
    assert not config.out.exists()
