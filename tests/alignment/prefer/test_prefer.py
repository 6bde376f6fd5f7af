"""The complete job: train on pairs, test beside the baselines, and save an assistant."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_runs import KilledError, kill_at

from groundup.alignment.prefer.config import PreferConfig
from groundup.alignment.prefer.encoding import EncodedPair
from groundup.alignment.prefer.prefer import prefer
from groundup.alignment.prefer.result import PreferResult
from groundup.alignment.prefer.split import split_pairs
from groundup.chat.assistant import open_chat
from groundup.chat.config import ChatConfig
from groundup.cli import console
from groundup.cli import prefer as view
from groundup.evaluation.config import GenerateConfig
from groundup.evaluation.export import export
from groundup.evaluation.generate import generate_samples
from groundup.evaluation.load import load
from groundup.finetune.plan import FineTuningPlan
from groundup.records.rows import Pair
from groundup.records.splits import book_order
from groundup.tokenizer.template import Message
from groundup.train.step import Step
from groundup.weights.config import ExportConfig


def tuned(config: PreferConfig) -> PreferResult:
    result = prefer(config)
    assert isinstance(result, PreferResult)
    assert not result.warnings
    return result


def test_the_assistant_learns_the_preference_and_loads(
    config: PreferConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    result = view.run(config)
    screen = " ".join(capsys.readouterr().out.split())
    assert isinstance(result, PreferResult)
    assert result.report is not None
    assert result.report.shares["tuned model"].n_right == 30
    assert result.report.margin_nats.mean > 1
    assert result.merge is not None
    assert result.merge.max_logit_difference < 1e-4
    assert config.run is not None
    folder = config.run.parent / "preferred"
    assert result.folder == folder
    stored = json.loads((folder / "evaluation" / "preferences.json").read_text())
    assert stored["all"]["accuracy"]["tuned model"]["n_right"] == 30
    assert stored["n_train"] == 24
    assert "Training set: 24 pairs. Validation set: 6 pairs. Test set: 30 pairs." in screen
    assert all(sentence in screen for sentence in result.verdict)
    readme = (folder / "README.md").read_text()
    assert f"groundup chat '{folder}'" in readme
    assert "| tuned model | 100.0 (" in readme
    assert (folder / "adapter" / "adapter_config.json").is_file()
    assert "before:" in (folder / "samples" / "preferences.md").read_text()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["finished_at"] >= manifest["started_at"]


def test_every_command_opens_the_result_as_an_assistant(config: PreferConfig) -> None:
    folder = tuned(dataclasses.replace(config, steps=2)).folder
    assert load(folder).is_assistant
    assert isinstance("".join(open_chat(ChatConfig(run=folder)).ask("say 3 cat")), str)
    assert generate_samples(GenerateConfig(run=folder, max_new_tokens=3, samples=1))
    assert export(ExportConfig(run=folder)).folder.is_dir()


def test_all_weights_can_be_trained(config: PreferConfig) -> None:
    result = tuned(dataclasses.replace(config, method="all", learning_rate=0.003))
    assert result.merge is None
    assert not (result.folder / "adapter").exists()
    assert result.report is not None
    assert result.report.margin_nats.mean > 1


def test_an_interrupted_run_ends_with_the_same_weights(config: PreferConfig) -> None:
    whole = tuned(dataclasses.replace(config, checkpoint_every=4))
    kept = load_file(whole.folder / "model.safetensors")
    shutil.rmtree(whole.folder)
    config = dataclasses.replace(config, checkpoint_every=4)
    with pytest.raises(KilledError):
        prefer(config, kill_at(10))
    (whole.folder / "reference.safetensors").rename(whole.folder / "away")
    resumed = tuned(config)  # the reference is computed again: that of the base
    assert resumed.folder == whole.folder
    assert resumed.trained.resumed_from_step >= 8
    assert (whole.folder / "away").read_bytes()[-480:] == (
        whole.folder / "reference.safetensors"
    ).read_bytes()[-480:]
    for name, weight in load_file(resumed.folder / "model.safetensors").items():
        assert torch.equal(weight, kept[name]), name


def test_the_reference_of_an_earlier_run_is_used_again(
    config: PreferConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(config, steps=2)
    first = tuned(config)
    assert first.reference_from is None
    second = view.run(dataclasses.replace(config, beta=0.5, split="grouped"))
    assert isinstance(second, PreferResult)
    assert second.folder == first.folder.with_name("preferred-2")
    assert second.reference_from == first.folder / "reference.safetensors"
    screen = capsys.readouterr().out.replace("\n", "")
    assert f"read from {first.folder / 'reference.safetensors'}" in screen
    third = tuned(dataclasses.replace(config, max_answer_tokens=2))  # other data
    assert third.reference_from is None


def test_a_plan_writes_nothing(
    config: PreferConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config.run is not None
    monkeypatch.setattr(console, "typed", ["prefer", "--config", "plan_only.toml"])
    before = sorted(config.run.parent.rglob("*"))
    plan = view.run(dataclasses.replace(config, plan_only=True))
    assert isinstance(plan, FineTuningPlan)
    assert plan.n_targets == 20 * 4
    assert sorted(config.run.parent.rglob("*")) == before
    shown = capsys.readouterr().out
    assert "80 pairs" in shown
    assert "next: groundup prefer --config plan_only.toml --no-plan-only" in shown


def test_near_duplicates_of_prompts_stay_in_one_set(config: PreferConfig, tmp_path: Path) -> None:
    records = [
        {
            "prompt": f"{'abcdefghij'[i // 2 % 10] * 9} word {'klmno'[i // 20] * 9}",
            "chosen": f"yes {i}",
            "rejected": "no",
        }
        for i in range(100)
    ]
    file = tmp_path / "near.json"
    file.write_text(json.dumps(records))
    config = dataclasses.replace(config, records=file, steps=1, n_samples=0)
    grouped = tuned(dataclasses.replace(config, split="grouped"))
    assert grouped.report is not None
    assert grouped.distinct is not None
    assert grouped.distinct.n == grouped.report.n
    assert not grouped.has_near_duplicates
    divided = tuned(dataclasses.replace(config, split="random"))
    assert divided.report is not None
    assert divided.has_near_duplicates
    assert list(divided.reports()) == ["all test pairs", "no near duplicate"]


def test_the_order_of_the_book(config: PreferConfig) -> None:
    result = tuned(
        dataclasses.replace(config, split="in-order", test_frac=0.1, validation_frac=0.05, steps=1)
    )
    assert (result.n_train, result.n_test, result.n_validation) == (51, 6, 3)
    assert "too few pairs to compare" in result.verdict[0]
    page = (result.folder / "samples" / "preferences.md").read_text()
    assert re.findall(r"say (\d+)", page) == ["51", "52"]


def test_the_order_of_the_book_at_every_size(config: PreferConfig) -> None:
    settings = dataclasses.replace(config, split="in-order", test_frac=0.1, validation_frac=0.05)
    pair = EncodedPair(Pair((Message("user", "a"),), "b", "c"), (([], []), ([], [])), 0)
    for n in (55, 60, 1100, 1111):
        pairs = [dataclasses.replace(pair, number=i) for i in range(n)]
        found, book = split_pairs(pairs, n, settings), book_order(n)
        for part in ("train", "validation", "test"):
            assert [pair.number for pair in getattr(found, part)] == getattr(book, part)


def test_the_sets_of_a_column(config: PreferConfig, tmp_path: Path) -> None:
    assert config.records is not None
    records = json.loads(Path(config.records).read_text())
    for i, record in enumerate(records):
        record["set"] = "test" if i < 10 else "valid" if i < 15 else "train"
    (tmp_path / "sets.json").write_text(json.dumps(records))
    result = tuned(
        dataclasses.replace(
            config, records=tmp_path / "sets.json", split_column="set", steps=1, n_samples=0
        )
    )
    assert (result.n_train, result.n_test, result.n_validation) == (45, 10, 5)


def test_cross_validation_tests_every_pair_once(config: PreferConfig) -> None:
    config = dataclasses.replace(config, split="grouped", test_frac=0.1, folds=3)
    config = dataclasses.replace(config, validation_frac=0.2, steps=8)
    names: list[str] = []
    n_steps = 0

    def stop_in_the_second_fold(step: Step) -> None:
        nonlocal n_steps
        n_steps += 1
        if n_steps == 12:
            raise KilledError

    with pytest.raises(KilledError):
        prefer(config, stop_in_the_second_fold, on_training=names.append)
    result = prefer(config, on_training=names.append)
    every = ["fold 1 of 3", "fold 2 of 3", "fold 3 of 3", "final model"]
    assert names == [*every[:2], *every]
    assert isinstance(result, PreferResult)
    assert not result.warnings
    assert (result.n_train, result.n_validation, result.n_test) == (48, 12, 60)
    assert result.report is not None
    assert result.report.n == 60
    assert result.report.margin_nats.mean > 0.5
    whole = tuned(dataclasses.replace(config, out=result.folder.with_name("again")))
    assert whole.report is not None
    for name, scores in whole.report.scores.items():
        assert scores.tolist() == result.report.scores[name].tolist(), name
    assert not list(result.folder.glob("folds/*/checkpoints"))
