"""The complete job: train, answer before and after, score, save, and resume."""

import dataclasses
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import KilledError, kill_at

from groundup.base.errors import UserError
from groundup.chat.assistant import about_assistant, open_chat
from groundup.chat.config import ChatConfig
from groundup.cli import instruct as view
from groundup.cli.instruct_view import show_prepared
from groundup.evaluation.export import export
from groundup.evaluation.load import load
from groundup.finetune.instruct import baselines
from groundup.finetune.instruct.config import LORA_ABOVE, InstructConfig
from groundup.finetune.instruct.forgetting import PlainText
from groundup.finetune.instruct.instruct import instruct, plan_instruct, show_records
from groundup.finetune.instruct.result import InstructResult, Prepared
from groundup.finetune.instruct.synthetic import GRADERS
from groundup.finetune.instruct.testing import Callbacks
from groundup.finetune.instruct.tuning import plain_rows
from groundup.model.config import GPTConfig
from groundup.model.gpt import GPT
from groundup.text.config import PrepareConfig
from groundup.text.prepare import prepare
from groundup.weights.checkpoint_format import save_model
from groundup.weights.config import ExportConfig

WORDS = "cat dog log mat sat the and on at dot god tom not hat mad tan den met got ton".split()  # noqa: SIM905


@pytest.fixture
def config(run: Path) -> InstructConfig:
    records = [{"instruction": f"{word} {word}", "output": "the cat"} for word in WORDS]
    records.append({"instruction": "the prompt fills the context " * 9, "output": "the cat"})
    file = run.parent / "records.jsonl"
    file.write_text("\n".join(map(json.dumps, records)))
    return InstructConfig(
        run=run, records=file, steps=30, batch_size=4, max_new_tokens=6, threads=1, device="cpu"
    )


@pytest.fixture
def synthetic(run: Path) -> InstructResult:
    """Of records made from the documents of a data folder."""
    rng = random.Random(0)
    known = ["".join(rng.choices("catdogse", k=rng.randint(3, 5))) for _ in range(90)]
    texts = run.parent / "texts"
    texts.mkdir()
    for i in range(8):
        (texts / f"{i}.txt").write_text(" ".join(rng.choices(known, k=400)))
    data = run.parent / "data"
    prepare(PrepareConfig(sources=(str(texts),), out=data, validation_frac=0.2))
    config = GPTConfig(vocab_size=300, context_length=200, d_model=16, n_layers=1, n_heads=2)
    tokenizer = load(run).tokenizer
    config = dataclasses.replace(config, vocab_size=tokenizer.vocab_size)
    save_model(GPT(config, seed=1), run / "checkpoints" / "step-000001")
    return instruct(
        InstructConfig(
            run=run, data=data, steps=3, batch_size=4, test_per_kind=2, threads=1, device="cpu"
        )
    )


def write_records(config: InstructConfig, records: list[dict[str, Any]]) -> None:
    assert config.records is not None
    Path(config.records).write_text("\n".join(map(json.dumps, records)))


def test_the_assistant_learns_and_loads(
    config: InstructConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    result = view.run(config)
    assert result is not None
    screen = " ".join(capsys.readouterr().out.split())
    assert result.evaluation is not None
    assert len(result.evaluation.items) == 2
    assert result.prepared.n_train + result.prepared.n_too_long == 19
    assert result.loss_after_nats is not None
    assert result.loss_after_nats < result.loss_before_nats
    assert result.plain_before is not None
    assert result.forgetting in screen
    assert "Python's language reference" in result.forgetting
    assert "21 records: 0 repeated prompts, 21 groups of near duplicates." in screen
    for name in (baselines.UNTUNED, baselines.ECHO, baselines.NEAREST, baselines.TUNED):
        assert name in screen
    assert "2 test records are too few to compare" in screen
    readme = (result.folder / "README.md").read_text()
    assert f"groundup chat '{result.folder}'" in readme
    assert "| fine-tuned |" in readme
    assert "expected: 'the cat'" in (result.folder / "samples" / "answers.md").read_text()
    logged = (result.folder / "evaluation" / "answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["expected"] for line in logged] == ["the cat"] * 2
    stored = json.loads((result.folder / "assistant.json").read_text())
    assert stored["n_held_out"] == 2
    assert len(stored["prompts_to_try"]) == 2
    about = about_assistant(result.folder)
    assert (about.name, list(about.prompts)) == ("my run", stored["prompts_to_try"])
    assert load(result.folder).model.config.context_length == 24
    assert isinstance("".join(open_chat(ChatConfig(run=config.run)).ask("cat cat")), str)


def test_lora_writes_a_complete_model_and_an_adapter(config: InstructConfig) -> None:
    result = instruct(dataclasses.replace(config, method="lora", learning_rate=0.05))
    assert result.loss_after_nats is not None
    assert result.loss_after_nats < 0.9 * result.loss_before_nats
    assert result.n_trained_parameters < result.n_parameters
    assert result.merge is not None
    assert result.merge.max_logit_difference < 1e-5
    files = {path.name for path in result.folder.iterdir()}
    assert files >= {"model.safetensors", "adapter", "tokenizer", "README.md", "evaluation"}
    assert (result.folder / "adapter" / "adapter_config.json").is_file()
    exported = export(ExportConfig(run=result.folder))
    assert exported.max_logit_difference < 1e-4
    assert config.run is not None
    before, after = (
        dict(load(path).model.named_parameters()) for path in (config.run, result.folder)
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {n for n in before if n.startswith("blocks.") and before[n].ndim == 2}


def test_an_interrupted_run_is_resumed(config: InstructConfig) -> None:
    whole = instruct(dataclasses.replace(config, out=config.run.parent / "whole"))  # type: ignore[union-attr]
    out = config.run.parent / "out"  # type: ignore[union-attr]
    again = dataclasses.replace(config, out=out, checkpoint_every=4)
    with pytest.raises(KilledError):
        instruct(again, Callbacks(on_step=kill_at(9)))
    answered = []
    result = instruct(again, Callbacks(on_answer=lambda name, n, total: answered.append(name)))
    assert result.folder == out
    assert result.trained.resumed_from_step == 8
    assert set(answered) == {baselines.TUNED}, "the untuned answers were kept"
    first, second = load(whole.folder).model, load(out).model
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert instruct(again).folder == out.with_name("out-2"), "a finished run is not changed"


def test_plain_text_that_the_tokenizer_cannot_encode_stops_nothing(
    config: InstructConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object) -> float:
        raise UserError("The character 'x' was not in the training text.")

    monkeypatch.setattr(PlainText, "bits_per_byte", refused)
    result = instruct(dataclasses.replace(config, steps=1))
    assert (result.plain_before, result.plain_after) == (None, None)
    assert "The loss on plain text is missing: The character 'x'" in caplog.text


def test_folds_test_every_record_once(config: InstructConfig) -> None:
    folds: list[tuple[int, int]] = []
    config = dataclasses.replace(config, folds=3, steps=4)
    result = instruct(config, Callbacks(on_fold=lambda number, n: folds.append((number, n))))
    assert folds == [(1, 3), (2, 3), (3, 3)]
    assert result.evaluation is not None
    n = len(WORDS) - result.prepared.n_too_long + 1
    assert len(result.evaluation.items) == n
    assert len({item.prompt for item in result.evaluation.items}) == n
    assert all(result.evaluation.is_new)
    assert set(result.evaluation.answers) >= {baselines.UNTUNED, baselines.ECHO, baselines.TUNED}
    assert not list(result.folder.glob("folds/*/checkpoints"))
    assert json.loads((result.folder / "assistant.json").read_text())["n_held_out"] == n
    assert load(result.folder).is_assistant
    calls: list[str] = []
    (result.folder / "manifest.json").write_text(
        json.dumps(
            {
                k: v
                for k, v in json.loads((result.folder / "manifest.json").read_text()).items()
                if k != "finished_at"
            }
        )
    )
    again = instruct(config, Callbacks(on_answer=lambda name, n, total: calls.append(name)))
    assert again.folder == result.folder
    assert calls == [], "folds that were tested are not tested again"
    assert again.evaluation == result.evaluation


def test_records_longer_than_the_context_are_left_out_and_counted(
    config: InstructConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers that were cut would never teach the end of an answer."""
    records = [{"instruction": f"{word} say", "output": "the cat"} for word in WORDS[:10]]
    records += [{"instruction": f"{w} tell", "output": "the cat sat on " * 9} for w in WORDS[10:15]]
    write_records(config, records)
    result = view.run(dataclasses.replace(config, steps=2, test_frac=0.6))
    assert result is not None
    prepared = result.prepared
    assert (prepared.n_read, prepared.n_too_long) == (15, 5)
    assert prepared.n_train + prepared.n_test == 10
    screen = " ".join(capsys.readouterr().out.split())
    sentence = "5 of 15 records are longer than the context of 24 tokens and are left out."
    assert sentence in screen
    assert sentence in " ".join((result.folder / "README.md").read_text().split())
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert manifest["n_records_read"] == 15
    assert manifest["left_out"] == {"longer than the context": 5}
    with pytest.raises(UserError, match=r"records\.jsonl:11: This conversation has \d+ tokens"):
        instruct(dataclasses.replace(config, overlong="error"))


def test_answers_that_do_not_end_are_counted(config: InstructConfig) -> None:
    result = instruct(dataclasses.replace(config, steps=1, max_new_tokens=1))
    assert "2 of 2 test answers did not end within 1 tokens" in result.cut_answers


def test_from_a_checkpoint_the_assistant_goes_to_the_run(config: InstructConfig) -> None:
    assert config.run is not None
    checkpoint = config.run / "checkpoints" / "step-000001"
    result = instruct(dataclasses.replace(config, run=checkpoint, steps=1))
    assert result.folder == config.run / "assistant"
    assert not (checkpoint / "assistant").exists()


def test_records_that_do_not_fit_the_context(config: InstructConfig) -> None:
    assert config.run is not None
    long = [{"instruction": f"{w} fills the context " * 20, "output": "yes"} for w in WORDS[:4]]
    write_records(config, long)
    callbacks = Callbacks(on_step=lambda step: pytest.fail(str(step)))
    with pytest.raises(UserError, match="context length of 24 tokens") as caught:
        instruct(config, callbacks)
    assert "4 of 4 records" in str(caught.value)
    assert not (config.run / "assistant").exists()
    write_records(config, [*long, {"instruction": "say", "output": "yes"}])
    with pytest.raises(UserError, match="4 of 5 records are longer"):
        instruct(config, callbacks)
    write_records(config, [{"instruction": "say", "output": "yes"}])
    with pytest.raises(UserError, match=r"number of records is 1\. At least two"):
        instruct(config, callbacks)


def test_prompts_that_are_all_near_duplicates(config: InstructConfig) -> None:
    write_records(config, [{"instruction": "say it" + "!" * i, "output": "cat"} for i in range(9)])
    with pytest.raises(UserError, match="form 1 groups of near duplicates") as caught:
        instruct(config)
    assert caught.value.settings == {"split": "random"}
    result = instruct(dataclasses.replace(config, split="random", steps=1))
    assert result.prepared.n_test_near == 1


def test_the_sets_that_a_column_names(config: InstructConfig) -> None:
    parts = ["train"] * 12 + ["test"] * 5 + ["validation"] * 3
    records = [
        {"instruction": f"{w} {w}", "output": "the cat", "part": part}
        for w, part in zip(WORDS, parts, strict=True)
    ]
    write_records(config, records)
    config = dataclasses.replace(config, steps=2, split_column="part")
    prepared = instruct(config).prepared
    assert (prepared.n_train, prepared.n_test, prepared.n_validation) == (12, 5, 3)
    few = instruct(dataclasses.replace(config, max_test=2, out=config.run / "few")).prepared  # type: ignore[operator]
    assert (few.n_train, few.n_test) == (12, 2)
    write_records(config, records[:12])
    with pytest.raises(UserError, match="12 records that fit the context into train and 0 into"):
        instruct(config)


def test_the_tests_are_planned_and_may_not_use_up_a_budget(
    config: InstructConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = plan_instruct(config)
    assert 0 < cost.after_s < cost.total_s[0] < cost.total_s[1]
    place = "groundup.finetune.instruct.instruct.estimate_tests_s"
    monkeypatch.setattr(place, lambda *args, **settings: (50.0, 20.0))
    with pytest.raises(UserError, match=r"The tests of 2 records .* about 70 s"):
        instruct(dataclasses.replace(config, budget="1m"))
    assert not (config.run / "assistant").exists()  # type: ignore[operator]


def test_the_plan_of_folds_says_that_there_are_several_trainings(
    config: InstructConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    view.run(dataclasses.replace(config, folds=3, plan_only=True))
    assert "Cross-validation takes 4 times as long as this." in capsys.readouterr().out


def test_plain_text_is_mixed_into_the_training(
    config: InstructConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="does not record which data"):
        instruct(dataclasses.replace(config, mix_frac=0.5, steps=2))
    text = config.run.parent / "plain.txt"  # type: ignore[union-attr]
    text.write_text("the dog sat on the log and the cat sat on the mat\n" * 40)
    data = config.run.parent / "data"  # type: ignore[union-attr]
    prepare(PrepareConfig(sources=(str(text),), out=data))
    mixed = dataclasses.replace(config, mix_frac=0.25, data=data, steps=40)
    assert config.run is not None
    tokenizer = load(config.run).tokenizer
    rows = plain_rows(mixed, tokenizer, 24, n_rows=30)
    assert len(rows) == 10
    for ids, targets in rows:  # every token is a target
        assert ids[1:] == targets[:-1]
        assert tokenizer.decode([*ids, targets[-1]]) in text.read_text()
    seen: list[Prepared] = []

    def stop(prepared: Prepared) -> None:
        seen.append(prepared)
        show_prepared(prepared)
        raise KilledError

    with pytest.raises(KilledError):
        instruct(dataclasses.replace(mixed, steps=None, epochs=2.0), on_prepared=stop)
    assert seen[0].n_plain_rows == round(seen[0].n_train / 3) > 0
    n_rows = seen[0].n_train + seen[0].n_plain_rows
    assert seen[0].n_steps == math.ceil(2 * n_rows / seen[0].batch_size)
    screen = " ".join(capsys.readouterr().out.split())
    assert f"and {seen[0].n_plain_rows} rows of plain text, in {seen[0].n_steps} steps" in screen
    losses = [
        load(instruct(dataclasses.replace(mixed, mix_frac=frac)).folder).loss(text.read_text()[:60])
        for frac in (0.0, 0.25)
    ]
    assert losses[1] < losses[0]


def test_noise_in_the_embeddings(config: InstructConfig) -> None:
    quiet = instruct(dataclasses.replace(config, steps=2))
    noisy = instruct(dataclasses.replace(config, steps=2, neftune_alpha=5.0))
    again = instruct(dataclasses.replace(config, steps=2, neftune_alpha=5.0, seed=0))
    assert noisy.loss_after_nats != quiet.loss_after_nats
    assert noisy.loss_after_nats == again.loss_after_nats


def test_show_marks_the_trained_tokens(
    config: InstructConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(
        config,
        [
            {
                "messages": [
                    {"role": "user", "content": "the cat"},
                    {"role": "assistant", "content": "sat"},
                    {"role": "user", "content": "the dog"},
                    {"role": "assistant", "content": "on"},
                ]
            },
            {"instruction": "say", "output": "mat"},
        ],
    )
    assert view.run(dataclasses.replace(config, show=1)) is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("record 1: ")
    trained = [line.split()[-1].strip("'") for line in lines if line.startswith("+")]
    assert "".join(trained).split("<|end|>") == ["sat", "on", ""]
    assert sum("record" in line for line in lines) == 1
    assert config.run is not None
    assert not (config.run / "assistant").exists()
    ((_, tokens),) = show_records(dataclasses.replace(config, show=1))
    assert len(tokens) == len(lines) - 1


def test_the_method_follows_the_size_of_the_model() -> None:
    small, large = (InstructConfig().resolved(n) for n in (LORA_ABOVE, LORA_ABOVE + 1))
    assert (small.method, small.batch_size, small.learning_rate) == ("all", 32, 0.02)
    assert (large.method, large.batch_size, large.learning_rate) == ("lora", 16, 0.001)
    assert (small.dtype, large.dtype) == ("fp32", "auto")
    assert small.n_steps(99) == 400
    full = InstructConfig(method="all", records="a.json").resolved(LORA_ABOVE + 1)
    assert (full.learning_rate, full.steps, full.max_new_tokens) == (5e-5, None, 64)
    chosen = InstructConfig(batch_size=7, learning_rate=0.5, dtype="bf16").resolved(1)
    assert (chosen.batch_size, chosen.learning_rate, chosen.dtype) == (7, 0.5, "bf16")
    with pytest.raises(UserError, match="cannot be split into 20 parts"):
        InstructConfig(grad_accumulation_steps=20).resolved(LORA_ABOVE + 1)
    with pytest.raises(UserError, match=r"Folds need a file of records.* Try: folds=None"):
        InstructConfig(folds=5)
    with pytest.raises(UserError, match=r"budget does not apply.* Try: budget=None"):
        InstructConfig(folds=5, budget="10m", records="a.json")


def test_the_verdict_names_the_kinds(synthetic: InstructResult) -> None:
    verdict, bits, _ = synthetic.verdict
    assert verdict.startswith("Learned: ")
    assert "Not learned: " in verdict
    assert synthetic.prompts_to_try()[0] == "Who are you?"
    kinds = {kind: after.n for kind, _, after in synthetic.shares()}
    assert kinds == {**dict.fromkeys(GRADERS, 2), "all": 2 * len(GRADERS)}
    readme = (synthetic.folder / "README.md").read_text()
    assert "made from the documents of the run" in readme
    assert "| kind | prompts | before | after | bits/token before | bits/token after |" in readme
    for measured, loss in (
        (synthetic.bits_before, synthetic.loss_before_nats),
        (synthetic.bits_after, synthetic.loss_after_nats),
    ):
        assert measured is not None
        assert measured.keys() == kinds.keys()
        assert measured["all"] * math.log(2) == pytest.approx(loss)
        each = [value for kind, value in measured.items() if kind != "all"]
        assert min(each) < measured["all"] < max(each)
    assert bits == "An answer token costs {1} bits instead of {0}.".format(*synthetic.bits("all"))
