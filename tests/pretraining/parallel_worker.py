"""One process of a parallel run: torchrun starts it with a folder and the settings as JSON.

With a number of processes it forks them itself, in the environment that torchrun would set, so that
torch is imported only once. With "kill" in the settings the process of that number is killed, once,
after step 7, as by `kill -9`; with "stop_at" the first process dies after that step, and the run
with it.
"""

import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from killed import start
from small_runs import MODEL, settings

from groundup.base.fields import replace_settings
from groundup.pretraining.pretrain import pretrain
from groundup.train.config import PretrainConfig
from groundup.train.step import Step


def main(folder: Path, wishes: dict) -> None:
    rank = int(os.environ.get("RANK", "0"))
    (folder / f"pid-{rank}").write_text(str(os.getpid()), "utf-8")
    victim, stop_at = wishes.pop("kill", None), wishes.pop("stop_at", None)

    def on_step(step: Step) -> None:
        if step.step == stop_at:
            os._exit(9)
        done = folder / "killed"
        if victim is not None and step.step == 7 and not done.exists():
            done.touch()
            os.kill(int((folder / f"pid-{victim}").read_text("utf-8")), signal.SIGKILL)

    wishes["out"] = Path(wishes["out"])
    wishes["model"] = MODEL.__class__(**{**vars(MODEL), "dropout": 0.0, **wishes.get("model", {})})
    mix = tuple(wishes.pop("mix", ()))
    config = settings(folder / "data", **wishes)
    if mix:
        config = replace_settings(config, mix=mix, data=PretrainConfig().data)
    pretrain(config, on_step)


def fork(n: int, call: Callable[[], None]) -> None:
    """Call the function in n processes; when one fails, kill the others and fail."""
    importlib.import_module("torch.distributed.fsdp")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    os.environ.update(address, WORLD_SIZE=str(n))
    running = set()
    for rank in range(n):
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
        running.add(start(call))
    while running:
        pid, status = os.wait()
        running.remove(pid)
        if status:
            for other in running:
                os.kill(other, signal.SIGKILL)
            sys.exit(1)


if __name__ == "__main__":
    folder, wishes, *n_processes = sys.argv[1:]
    work = partial(main, Path(folder), json.loads(wishes))
    if n_processes in ([], ["1"]):
        work()
    else:
        fork(int(n_processes[0]), work)
