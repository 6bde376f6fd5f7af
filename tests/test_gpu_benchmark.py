"""The benchmark of a GPU runs from one end to the other, with tiny models on a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "benchmarks" / "bench_gpu.py"


@pytest.mark.long
def test_every_part_gives_its_rows(tmp_path: Path) -> None:
    parts = "nanogpt gpt2 large characters variants"
    command = [sys.executable, str(BENCH), "--tiny", "--out", str(tmp_path), "--only", parts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "gpu.json").read_text())
    assert len(rows) == 6
    for row in rows:
        assert row["tokens_per_s"] > 0, row
        assert 0 < row["loss"] < 10, row
    ours = [row for row in rows if "planned_bytes" in row]
    assert len(ours) == 2
    assert all(row["peak_bytes"] > 0 and row["share"] > 0 for row in ours)
