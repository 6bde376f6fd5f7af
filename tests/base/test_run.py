"""A run folder is never overwritten."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from groundup.base.checkpoints import list_checkpoints
from groundup.base.errors import UserError
from groundup.base.results import read_results
from groundup.base.run import RunFolder


def test_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    names = [RunFolder.create(tmp_path / "run").path.name for _ in range(3)]
    assert names == ["run", "run-2", "run-3"]


MEASURED = ("loss_nats", "grad_norm")
MEASURES = dict.fromkeys(MEASURED, 2.5)


@pytest.mark.parametrize("name", ["runs/first", "runs/inner/first", "file/first"])
def test_a_parent_that_is_no_folder_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to(tmp_path / "missing" / "runs")
    (tmp_path / "file").touch()
    outer = tmp_path / name.split("/")[0]
    with pytest.raises(UserError, match="cannot be created") as caught:
        RunFolder.create(tmp_path / name)
    assert f"({outer} is not a folder)" in caught.value.message


def test_metrics_survive_a_line_cut_by_a_crash(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    run.log_metrics(step=1, **MEASURES, validation_loss_nats=None)
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "lo')
    assert run.read_metrics(MEASURED) == [{"step": 1, **MEASURES}]
    assert run.corrupt_metrics(MEASURED) == []


def test_metrics_pass_over_what_is_no_line_of_ours(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    metrics = run.path / "metrics.jsonl"
    whole = {"step": 2, **MEASURES}
    invalid = [
        b"\xff\xfe{",
        b"3",
        b"[]",
        b'{"loss_nats": 1}',
        b'{"step": 10}',
        b'{"step": "x", "loss_nats": null}',
        json.dumps(whole | {"step": 2.0}).encode(),
        json.dumps(whole | {"validation_loss_nats": "low"}).encode(),
        json.dumps(whole | {"loss_nats": float("nan")}).encode(),
        json.dumps(whole | {"loss_nats": 10**400}).encode(),
    ]
    metrics.write_bytes(b"\n".join([*invalid, json.dumps(whole).encode(), b""]))
    assert run.read_metrics(MEASURED) == [whole]
    assert run.corrupt_metrics(MEASURED) == list(range(1, len(invalid) + 1))
    assert len(run.read_metrics()) == 2, "one tells of a step alone"
    metrics.unlink()
    assert run.corrupt_metrics(MEASURED) == []
    metrics.mkdir()
    with pytest.raises(UserError, match=r"metrics\.jsonl: This file cannot be read"):
        run.read_metrics(MEASURED)


def test_a_result_that_is_none_of_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "evaluate.json").write_text("[]")
    with pytest.raises(UserError, match=r"evaluate\.json: This file is not a result"):
        read_results(tmp_path)


def test_checkpoints_are_ordered_by_their_step(tmp_path: Path) -> None:
    for name in ("step-999999", "step-1000000", "step-000007", "step-more", ".step-000009.a.tmp"):
        (tmp_path / name).mkdir()
    names = [path.name for path in list_checkpoints(tmp_path)]
    assert names == ["step-1000000", "step-999999", "step-000007"]
    assert list_checkpoints(tmp_path / "nowhere") == []


def test_one_process_at_a_time_works_in_a_run_folder(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    code = (
        "import sys; from groundup.base.run import RunFolder\n"
        "with RunFolder.open(sys.argv[1]).locked():\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"locked\n"
    with pytest.raises(UserError, match=r"Another process.*out="), run.locked():
        pass
    other.kill()  # without a chance to unlock
    other.communicate()
    with run.locked():
        pass


def test_the_manifest_names_versions_and_command(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    run.write_manifest({"seed": 7})
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert manifest["seed"] == 7
    assert manifest["versions"]["torch"] != "absent"


def test_a_log_on_a_full_disk_spoils_nothing(tmp_path: Path, capsys) -> None:
    run = RunFolder.create(tmp_path / "run")
    (run.path / "log.txt").symlink_to("/dev/full")
    with run.log_to_file():
        logging.getLogger("groundup").warning("lost")
    assert "Logging error" not in capsys.readouterr().err


def test_a_run_knows_its_layout(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    assert (run.checkpoints(), run.latest(), run.best()) == ([], None, None)
    assert not run.is_finished
    old, middle, new = (run.checkpoints_path / f"step-00000{n}" for n in (1, 2, 3))
    for folder in (old, middle, new):
        folder.mkdir(parents=True)
    assert run.latest() == run.best() == new
    (run.checkpoints_path / "latest").write_text("step-000002\n")
    assert run.latest() == run.best() == middle
    (run.checkpoints_path / "best").write_text("step-000001\n")
    assert run.best() == old
    assert run.preferred_checkpoints() == [old, middle, new]
    (run.checkpoints_path / "best").write_text("../../elsewhere")
    assert run.best() == middle, "no path out of the folder is followed"
    run.write_manifest({"finished_at": "now"})
    assert run.is_finished


@pytest.mark.parametrize(
    "inside",
    [
        "",
        "checkpoints",
        "checkpoints/step-000001",
        "checkpoints/step-000001/x.json",
        "data/train",
    ],
)
def test_the_run_of_a_path_inside_it(tmp_path: Path, inside: str) -> None:
    run = tmp_path / "run"
    path = run / inside
    (run / "checkpoints").mkdir(parents=True)
    assert RunFolder.of(path).path == run
    assert RunFolder.of(run / "classifier").path == run / "classifier", "a run of its own"
    assert RunFolder.of(tmp_path / "none").path == tmp_path / "none"
    with pytest.raises(UserError, match="no run folder"):
        RunFolder.open(run / "checkpoints" / "step-000009")
