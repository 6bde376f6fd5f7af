"""Every walk of the roadmap runs to its end, as its reader would run it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROADMAP = Path(__file__).resolve().parents[2] / "roadmap"
WALKS = sorted(ROADMAP.glob("*.py"))
SLOW = ("09",)
"""Those that run a pretrained model."""


def test_no_box_is_missing() -> None:
    assert [walk.name[:2] for walk in WALKS] == [f"{number:02}" for number in range(1, 14)]


@pytest.mark.parametrize(
    "walk",
    [
        pytest.param(walk, marks=[pytest.mark.slow] * walk.name.startswith(SLOW), id=walk.stem)
        for walk in WALKS
    ],
)
def test_the_walk_runs(walk: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(walk)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout
    assert "—" not in walk.read_text(encoding="utf-8")
