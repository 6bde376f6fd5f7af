"""Start a small run in processes of their own, and read its loss curve."""

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def run(
    folder: Path,
    n: int,
    *,
    torchrun: bool = False,
    restarts: int = 0,
    fails: bool = False,
    **wishes,
) -> Path:
    """Run n processes to the end, or to the death that was asked for; return the run folder.

    Args:
        folder: The folder of the data.
        n: Number of processes.
        torchrun: Start them by torchrun. Else one process imports torch, and is forked.
        restarts: How often torchrun starts them again.
        fails: Whether the run fails.
        wishes: Settings of the run, and what `parallel_worker.py` reads.
    """
    name = f"run-{wishes.get('parallel', 'ddp')}-{n}"
    out = Path(wishes.setdefault("out", str(folder / name)))
    wishes.setdefault("dtype", "fp32")
    worker = [str(TESTS / "pretraining" / "parallel_worker.py"), str(folder), json.dumps(wishes)]
    if torchrun:
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}"]
        command = [*launch, f"--max-restarts={restarts}", *worker]
    else:
        command = [*worker, str(n)]
    path = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = {"OMP_NUM_THREADS": "1"} if n > 1 else {}  # as torchrun does
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(path)},
        timeout=200,
    )
    assert (done.returncode != 0) == fails, done.stderr[-9000:]
    return out


def curve(out: Path) -> list[float]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    values = [row["loss_nats"] for row in rows]
    return values + [row["validation_loss_nats"] for row in rows if "validation_loss_nats" in row]
