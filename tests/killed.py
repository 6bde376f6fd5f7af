"""Run a function in processes that are killed at random moments, until it ends by itself.

As a program: `python killed.py MODULE:FUNCTION FOLDER N_KILLS SEED [ARGUMENT...]` calls
`FUNCTION(FOLDER/calm, ...)` undisturbed, and then `FUNCTION(FOLDER/killed0, ...)` again and again,
each time in a new process that gets a SIGKILL after a random delay. When it ends by itself, killed1
follows, and so on, until N_KILLS processes were killed. The processes are forked, so that torch is
imported only once.
"""

import functools
import importlib
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).resolve().parent


def run_killed(
    function: str, folder: Path, *arguments: str, n_kills: int, seed: int = 0
) -> list[Path]:
    """Run this file as a program, and return the folders of the runs that were killed."""
    words = [sys.executable, str(TESTS / "killed.py"), function, str(folder), str(n_kills)]
    paths = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])
    done = subprocess.run(
        [*words, str(seed), *arguments],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [folder / f"killed{number}" for number in range(int(done.stdout.split()[-1]))]


def start(call: Callable[[], object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        call()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def wait(pid: int, delay_s: float) -> int | None:
    """Return the exit status, or None if the process still runs after the delay."""
    until = time.monotonic() + delay_s
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.002)


def main() -> None:
    name, folder, n_kills, seed, *arguments = sys.argv[1:]
    module, function = name.split(":")
    call = getattr(importlib.import_module(module), function)
    generator = random.Random(int(seed))
    before = time.monotonic()
    status = wait(start(lambda: call(Path(folder, "calm"), *arguments)), 600)
    assert status == 0, f"the undisturbed run ended with {status}"
    whole_s = time.monotonic() - before
    killed, number = 0, 0
    while killed < int(n_kills) or number == 0:
        place = Path(folder, f"killed{number}")
        while True:
            pid = start(functools.partial(call, place, *arguments))
            delay_s = generator.uniform(0.0, whole_s) if killed < int(n_kills) else 600.0
            status = wait(pid, delay_s)
            if status is not None:
                break
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            killed += 1
        assert status == 0, f"after {killed} kills the run ended with {status}"
        number += 1
    print(number)


if __name__ == "__main__":
    main()
