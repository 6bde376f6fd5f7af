"""The complete job: train, answer before and after, grade and save."""

import dataclasses
import json
from pathlib import Path

import pytest
from groundup.finetune.instruct.records import Record
from small_runs import KilledError, kill_at

from groundup.base.errors import UserError
from groundup.cli import instruct as view
from groundup.evaluation.intervals import wilson
from groundup.evaluation.load import load
from groundup.finetune.instruct.config import InstructConfig
from groundup.finetune.instruct.instruct import instruct
from groundup.finetune.instruct.result import Answer, InstructResult


@pytest.fixture
def config(run: Path) -> InstructConfig:
    records = [{"instruction": f"say {i}", "output": "the cat"} for i in range(20)]
    records.append({"instruction": "the prompt fills the context " * 9, "output": "the cat"})
    file = run.parent / "records.jsonl"
    file.write_text("\n".join(map(json.dumps, records)))
    return InstructConfig(
        run=run, records=file, steps=30, batch_size=4, max_new_tokens=6, threads=1
    )


def test_the_assistant_learns_and_loads(
    config: InstructConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    result = view.run(config)
    screen = capsys.readouterr().out
    assert result.after is not None
    assert result.after.n == 2
    assert result.n_records + result.n_too_long == 19
    assert result.loss_after_nats is not None
    assert result.loss_after_nats < result.loss_before_nats
    assert f"Training set: {result.n_records} records. Test set: 2 records." in screen
    assert result.verdict in " ".join(screen.split())
    assert "answers match the expected text exactly" in result.verdict
    assert load(result.folder).model.config.context_length == 24
    readme = (result.folder / "README.md").read_text()
    assert f"groundup chat '{result.folder}'" in readme
    assert "interrupted, it starts again from the\nbeginning" in readme
    assert "expected: the cat" in (result.folder / "samples" / "answers.md").read_text()
    stored = json.loads((result.folder / "assistant.json").read_text())
    assert stored["n_held_out"] == 2
    assert stored["n_right_after_by_kind"] == {"all": result.after.n_right}


def test_records_longer_than_the_context_are_left_out_and_counted(
    config: InstructConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers that were cut would never teach the end of an answer."""
    assert config.records is not None
    records = [{"instruction": f"say {i}", "output": "the cat"} for i in range(10)]
    records += [{"instruction": f"tell {i}", "output": "the cat sat on " * 9} for i in range(5)]
    records += [{"instruction": "say 0", "output": f"again {i}"} for i in range(3)]
    Path(config.records).write_text("\n".join(map(json.dumps, records)))
    result = view.run(dataclasses.replace(config, steps=2, test_frac=0.99))
    assert len(result.answers) == 9
    assert (result.n_read, result.n_too_long) == (18, 5)
    assert result.n_records + len(result.answers) + result.n_repeated == 13
    assert result.n_repeated in (0, 3)  # 3 if "say 0" is in the test set
    screen = " ".join(capsys.readouterr().out.split())
    sentence = "5 of 18 records are longer than the context of 24 tokens and are left out."
    assert sentence in screen
    assert sentence in (result.folder / "README.md").read_text()
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert manifest["n_records_read"] == 18
    assert manifest["left_out"] == {
        "longer than the context": 5,
        "same prompt as a test record": result.n_repeated,
    }


def test_answers_that_do_not_end_are_counted(config: InstructConfig) -> None:
    result = instruct(dataclasses.replace(config, steps=1, max_new_tokens=1))
    assert result.n_cut_answers == 2
    assert "2 of 2 test answers did not end within 1 tokens" in " ".join(result.left_out)


def test_an_interrupted_job_leaves_nothing(config: InstructConfig) -> None:
    assert config.run is not None
    with pytest.raises(KilledError):
        instruct(config, on_step=kill_at(5))
    assert not (config.run / "assistant").exists()


def test_from_a_checkpoint_the_assistant_goes_to_the_run(config: InstructConfig) -> None:
    assert config.run is not None
    checkpoint = config.run / "checkpoints" / "step-000001"
    result = instruct(dataclasses.replace(config, run=checkpoint, steps=1))
    assert result.folder == config.run / "assistant"
    assert not (checkpoint / "assistant").exists()


def test_records_that_do_not_fit_the_context(config: InstructConfig) -> None:
    assert config.run is not None
    assert config.records is not None
    long = [{"instruction": f"{i} fills the context " * 20, "output": "yes"} for i in range(4)]
    Path(config.records).write_text("\n".join(map(json.dumps, long)))
    with pytest.raises(UserError, match="context length of 24 tokens") as caught:
        instruct(config, on_step=lambda step: pytest.fail(str(step)))
    assert "4 of 4 records" in str(caught.value)
    assert not (config.run / "assistant").exists()
    rest = json.dumps({"instruction": "say", "output": "yes"})
    Path(config.records).write_text("\n".join([*map(json.dumps, long), rest]))
    with pytest.raises(UserError, match="4 of 5 records are longer"):
        instruct(config)


def test_the_verdict_names_the_kinds() -> None:
    def answers(kind: str, n_right: int) -> list[Answer]:
        record = Record("?", "!", kind=kind)
        return [Answer(record, "", "", False, i < n_right) for i in range(10)]

    result = InstructResult(
        folder=Path(),
        n_records=1,
        n_too_long=0,
        answers=[*answers("repeat", 6), *answers("is it there", 6), *answers("capitals", 1)],
        before=wilson(0, 30),
        after=wilson(13, 30),
        loss_before_nats=1.0,
        loss_after_nats=1.0,
        steps=[],
        elapsed_s=0.0,
    )
    assert result.verdict.startswith("Learned: repeat. Not learned: capitals.")
    assert [a.record.kind for a in view.examples(result.answers)] == list(result.by_kind())
