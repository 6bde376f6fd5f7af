"""Which data a run was trained on: what is recorded decides, never a folder's name alone."""

import json
import shutil
from pathlib import Path

import pytest

from groundup.base.errors import UserError
from groundup.base.run import RunFolder
from groundup.evaluation.run_data import data_of

OLD = Path(__file__).parents[1] / "fixtures" / "run-0.1.0"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    shutil.copytree(OLD, tmp_path / "old")
    return RunFolder(tmp_path / "old" / "run")


def record(run: RunFolder, **changes: object) -> None:
    manifest = json.loads(run.manifest_path.read_text()) | changes
    kept = {key: value for key, value in manifest.items() if value is not None}
    run.manifest_path.write_text(json.dumps(kept))


NO_FINGERPRINTS = dict.fromkeys(
    ("train_fingerprint", "validation_fingerprint", "tokenizer_fingerprint", "corpus_sha256")
)


def test_beside_the_run_only_with_equal_fingerprints(run: RunFolder) -> None:
    data = run.path.parent / "data"
    assert data_of(run) == data
    record(run, **NO_FINGERPRINTS)
    with pytest.raises(UserError, match=r"is not at /home/user/data any more.*data="):
        data_of(run)
    record(run, data=str(data))
    assert data_of(run) == data, "the recorded path needs no fingerprint"


def test_the_path_relative_to_the_run_is_tried_after_the_recorded_one(run: RunFolder) -> None:
    data = run.path.parent / "data"
    moved = data.rename(run.path.parent / "elsewhere")
    with pytest.raises(UserError, match="any more"):
        data_of(run)
    record(run, data_relative_to_run="../elsewhere")
    assert data_of(run) == moved
    record(run, data="elsewhere", data_relative_to_run=None, **NO_FINGERPRINTS)
    with pytest.raises(UserError):
        data_of(run)  # a relative path means another folder in every working directory


@pytest.mark.parametrize("side", ["train", "validation"])
def test_a_store_that_changed_is_refused_and_a_good_copy_is_found(
    run: RunFolder, side: str
) -> None:
    data = run.path.parent / "data"
    record(run, data=str(data))
    shutil.copytree(data, run.path / "data")
    other = "validation" if side == "train" else "train"
    shutil.rmtree(data / side)
    shutil.copytree(data / other, data / side)
    assert data_of(run) == run.path / "data"
    shutil.rmtree(run.path / "data")
    with pytest.raises(UserError, match=rf"data: This is not the data.*the {side} store"):
        data_of(run)


def test_texts_that_changed_are_refused(run: RunFolder) -> None:
    record(run, corpus_sha256={"train.jsonl": "another"})
    with pytest.raises(UserError, match="the train text is different"):
        data_of(run)


def test_a_run_that_records_nothing(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    with pytest.raises(UserError, match="does not record which data"):
        data_of(run)
    (run.path / "data" / "corpus").mkdir(parents=True)
    assert data_of(run) == run.path / "data"
