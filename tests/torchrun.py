"""Start a small run in processes of their own, as torchrun does, and read its loss curve."""

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def run(folder: Path, n: int, *, restarts: int = 0, fails: bool = False, **wishes) -> Path:
    """Run n processes to the end (or to the death that was asked for); give the run folder."""
    name = f"run-{wishes.get('parallel', 'ddp')}-{n}"
    out = Path(wishes.setdefault("out", str(folder / name)))
    wishes.setdefault("dtype", "fp32")
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}"]
    launch += [f"--max-restarts={restarts}"]
    if n == 1:
        launch = []
    command = [
        sys.executable,
        *launch,
        str(TESTS / "pretraining" / "parallel_worker.py"),
        str(folder),
    ]
    path = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [*command, json.dumps(wishes)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        timeout=200,
    )
    assert (done.returncode != 0) == fails, done.stderr[-9000:]
    return out


def curve(out: Path) -> list[float]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    values = [row["loss_nats"] for row in rows]
    return values + [row["validation_loss_nats"] for row in rows if "validation_loss_nats" in row]
