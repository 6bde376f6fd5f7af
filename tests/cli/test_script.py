"""The console script leaves at once, and yet nothing that was said or put off is lost."""

import subprocess
import sys

import pytest

_SCRIPT = """
import atexit
from groundup.cli import main as cli

def work():
    print("said", end="")
    atexit.register(print, ", put off", end="")
    {end}

cli.main = work
cli.script()
"""


@pytest.mark.parametrize("status", [0, 1, 130])
def test_output_and_status_outlive_the_quick_end(status: int) -> None:
    code = _SCRIPT.format(end=f"return {status}")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status, "said, put off", "")


def test_an_unforeseen_error_is_told() -> None:
    code = _SCRIPT.format(end="raise RuntimeError('unforeseen')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == "said, put off"
    assert "RuntimeError: unforeseen" in done.stderr
