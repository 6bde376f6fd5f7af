"""The complete job: train, answer before and after, grade and save."""

import dataclasses
import json
from pathlib import Path

import pytest
from small_runs import KilledError, kill_at

from groundup.base.errors import UserError
from groundup.cli import instruct as view
from groundup.evaluation.intervals import wilson
from groundup.evaluation.load import load
from groundup.finetune.instruct.config import InstructConfig
from groundup.finetune.instruct.instruct import Answer, InstructResult, instruct
from groundup.finetune.instruct.records import Record


@pytest.fixture
def config(run: Path) -> InstructConfig:
    records = [{"instruction": f"say {i}", "output": "the cat"} for i in range(20)]
    records.append({"instruction": "the prompt fills the context " * 9, "output": "the cat"})
    file = run.parent / "records.jsonl"
    file.write_text("\n".join(map(json.dumps, records)))
    return InstructConfig(
        run=run, records=str(file), steps=30, batch_size=4, max_new_tokens=6, threads=1
    )


def test_the_assistant_learns_and_loads(
    config: InstructConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    result = view.run(config)
    screen = capsys.readouterr().out
    assert result.after.n == 2
    assert result.n_records + result.n_too_long == 19
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


def test_an_interrupted_job_leaves_nothing(config: InstructConfig) -> None:
    with pytest.raises(KilledError):
        instruct(config, on_step=kill_at(5))
    assert not (config.run / "assistant").exists()


def test_from_a_checkpoint_the_assistant_goes_to_the_run(config: InstructConfig) -> None:
    checkpoint = config.run / "checkpoints" / "step-000001"
    result = instruct(dataclasses.replace(config, run=checkpoint, steps=1))
    assert result.folder == config.run / "assistant"
    assert not (checkpoint / "assistant").exists()


def test_records_that_do_not_fit_the_context(config: InstructConfig) -> None:
    assert config.records is not None
    long = [{"instruction": f"{i} fills the context " * 20, "output": "yes"} for i in range(4)]
    Path(config.records).write_text("\n".join(map(json.dumps, long)))
    with pytest.raises(UserError, match="context length of 24 tokens"):
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
