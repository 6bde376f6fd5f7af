"""One step over a window of 1,500,000 tokens, with the limits of memory and time on two cores."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from groundup.base.device import choose_dtype

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
_PREPARE = "import sys, pathlib, bench_segments; bench_segments.prepared(pathlib.Path(sys.argv[1]))"


@pytest.mark.long
@pytest.mark.timeout(4000)
@pytest.mark.parametrize(
    ("layers", "width", "most_gb", "most_minutes"),
    [("wdwd", 192, 3, (10, 20)), ("wdwdwdwd", 320, 5, (45, 45))],
)
def test_a_step_of_1500000_tokens(
    tmp_path: Path, layers: str, width: int, most_gb: int, most_minutes: tuple[int, int]
) -> None:
    """The second limit of time is for processors that do not multiply bfloat16."""
    subprocess.run([sys.executable, "-c", _PREPARE, str(tmp_path)], check=True, cwd=BENCHMARKS)
    command = [sys.executable, "bench_segments.py", "--data", str(tmp_path / "python-library")]
    command += ["--tokens", "1500000", "--layers", layers, "--width", str(width)]
    done = subprocess.run(command, check=True, cwd=BENCHMARKS, stdout=subprocess.PIPE)
    print(done.stdout.decode())
    row = json.loads(done.stdout)
    is_exact = choose_dtype("auto", torch.device("cpu")) == torch.float32
    assert row["peak_bytes"] < most_gb * 1e9
    assert row["clock_s"] < 60 * most_minutes[is_exact]
    assert abs(row["planned_bytes"] / row["peak_bytes"] - 1) < 0.15
