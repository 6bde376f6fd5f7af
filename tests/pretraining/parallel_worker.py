"""One process of a parallel run: torchrun starts it with a folder and the settings as JSON.

With "kill" the process of that number is killed, once, after step 7, as by `kill -9`; with
"stop_at" the first process dies after that step, and the run with it.
"""

import json
import os
import signal
import sys
from pathlib import Path

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


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
