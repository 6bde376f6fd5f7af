"""Run commands in processes that get a signal at random moments. Used by test_interrupts.py.

As a program: `python interrupted_commands.py FOLDER SEED COUNT WORDS...` runs a command undisturbed
in FOLDER/calm, COUNT times in FOLDER/stopped with a signal at a random moment, and once more there
to its end. The folders are copies of FOLDER/start. It prints one JSON object.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from killed import wait

from groundup.cli import main as command_line
from groundup.cli.interrupts import Interrupts, handled_interrupts
from groundup.cli.verbs import VERBS

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Handle signals, which wait before and after: there, they would end the process at once."""
    with handled_interrupts() as interrupts:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)
        try:
            yield interrupts
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)


def run_here(folder: Path, words: list[str], screen: Path) -> int:
    """Fork a process that runs a command; return its id."""
    signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)
        return pid
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as the console script does
    command_line.handled_interrupts = interruptible
    with open(screen, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    try:
        status = command_line.main(words)
    except BaseException as error:
        print(f"Traceback of {error!r}", file=sys.stderr)
        status = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def run_program() -> None:
    folder, seed, count, *words = sys.argv[1:]
    verb = next(verb for verb in VERBS if verb.name == words[0])
    __import__(verb.view.split(":")[0])  # once for all processes
    generator = random.Random(f"{seed} {words[0]}")
    for name in ("calm", "stopped"):
        shutil.copytree(Path(folder, "start"), Path(folder, name))
    screen = Path(folder, "screen")
    before = time.monotonic()
    status = wait(run_here(Path(folder, "calm"), words, screen), 600)
    assert status == 0 or verb.is_check, screen.read_text("utf-8")
    whole_s = time.monotonic() - before
    statuses, screens = [], []
    for number in range(int(count)):
        pid = run_here(Path(folder, "stopped"), words, screen)
        time.sleep(0.02)  # until it has a group of its own
        # One moment in each part of the time, early ones first: once a run has ended, the next ones
        # find its results.
        status = wait(pid, (number + generator.random()) / int(count) * whole_s)
        if status is None:
            os.killpg(pid, NUMBERS[number % 2])
            status = wait(pid, 600)
        statuses.append(status)
        screens.append(screen.read_text("utf-8", errors="replace"))
    statuses.append(wait(run_here(Path(folder, "stopped"), words, screen), 600))
    screens.append(screen.read_text("utf-8", errors="replace"))
    print(json.dumps({"statuses": statuses, "screens": screens}))


if __name__ == "__main__":
    run_program()
