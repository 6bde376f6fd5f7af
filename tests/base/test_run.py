"""A run folder is never overwritten."""

import json
from pathlib import Path

from groundup.base.run import RunFolder


def test_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    names = [RunFolder.create(tmp_path / "run").path.name for _ in range(3)]
    assert names == ["run", "run-2", "run-3"]


def test_metrics_survive_a_line_cut_by_a_crash(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    run.log_metrics(step=1, loss_nats=2.5, validation_loss_nats=None)
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "lo')
    assert run.read_metrics() == [{"step": 1, "loss_nats": 2.5}]


def test_the_manifest_names_versions_and_command(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    run.write_manifest({"seed": 7})
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert manifest["seed"] == 7
    assert manifest["versions"]["torch"] != "absent"
