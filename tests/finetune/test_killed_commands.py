"""Every training command, killed at random moments, ends as if it had not been."""

import json
from pathlib import Path
from typing import Any

import pytest
from killed import run_killed
from killed_commands import NAMES, make_start
from safetensors.torch import load_file

from groundup.base.run import RunFolder

OTHERS = [name for name in NAMES if name not in ("instruct", "pretrain", "reinforce")]
TUNED = Path("runs", "base", "tuned")
_TIMES = ("elapsed_s", "cpu_s", "started_at", "finished_at", "written_at", "per_s")
_MEASURED = ("memory", "n_bytes")
_PLACES = (
    *("waited_s", "working_folder", "resumed_from_step", "folder", "command", "data", "run"),
    "foundation",
)


def contents(folder: Path) -> dict[str, object]:
    """The models, results and metrics in a folder, without what a clock or a meter has written."""
    found: dict[str, object] = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if file.suffix == ".safetensors" and "checkpoints" not in file.parts:
            tensors = load_file(file)  # the order of the metadata in a file is random
            found[name] = {key: (t.dtype, t.flatten().tolist()) for key, t in tensors.items()}
        elif file.suffix == ".json" and "checkpoints" not in file.parts:
            found[name] = without_times(json.loads(file.read_text("utf-8")))
        elif file.suffix == ".jsonl":
            rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
            found[name] = [without_times(row) for row in rows]
        elif file.is_file() and "checkpoints" not in file.parts and file.name != ".lock":
            found[name] = None
    return found


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not any(name in k for name in _TIMES + _MEASURED)}
        return {k: without_times(v) for k, v in kept.items() if k not in _PLACES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("name", "n_kills"),
    [
        pytest.param("instruct", 5),
        pytest.param("pretrain", 4),
        *(pytest.param(name, 5, marks=pytest.mark.slow) for name in OTHERS),
    ],
)
def test_a_killed_command(tmp_path: Path, name: str, n_kills: int) -> None:
    make_start(tmp_path / "start")
    runs = run_killed(
        f"killed_commands:run_{name}", tmp_path, str(tmp_path / "start"), n_kills=n_kills, seed=1
    )
    calm = contents(tmp_path / "calm" / TUNED)
    assert "manifest.json" in calm
    for run in runs:
        assert not list(run.rglob("*.tmp"))
        # A command that is killed when all is written, but before its process ends, is finished;
        # the same command then makes another run. A run that was not resumed would be unfinished.
        tuned = sorted((run / TUNED).parent.glob("tuned*"))
        assert tuned
        for folder in tuned:
            assert RunFolder(folder).is_finished
            assert contents(folder) == calm
