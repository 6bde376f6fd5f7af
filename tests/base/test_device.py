"""Choice of the device, optional dependencies, and the memory of a process."""

import subprocess
import sys

import pytest
import torch

from groundup.base.device import choose_device, choose_dtype, set_threads
from groundup.base.errors import UserError
from groundup.base.extras import needed

MIB = 1 << 20
NEW = (
    "from groundup.base.device import *; from groundup.base.machine import *;"
    "cpu = choose_device('cpu');"
    "block = bytearray(b'x') * (200 << 20); held = memory_in_use_bytes(cpu); del block;"
    "print(held, memory_in_use_bytes(cpu), peak_memory_bytes(cpu))"
)


def test_the_peak_memory_is_that_of_this_process():
    """And not that of its parent, which getrusage includes."""
    block = bytearray(b"x") * (800 * MIB)
    done = subprocess.run([sys.executable, "-c", NEW], capture_output=True, text=True, timeout=120)
    del block
    most, now, peak = map(int, done.stdout.split())
    assert now < most - 150 * MIB
    assert most - 20 * MIB < peak < most + 20 * MIB  # the kernel updates its counters in batches


def test_wrong_settings_name_one_that_helps():
    cpu = choose_device("cpu")
    with pytest.raises(UserError, match=r"'gpu' is unknown.* Try: device='auto'"):
        choose_device("gpu")
    with pytest.raises(UserError, match=r"'fp8' is unknown.* Try: dtype='auto'"):
        choose_dtype("fp8", cpu)
    with pytest.raises(UserError, match=r"threads is 0.* Try: threads=1"):
        set_threads(0)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"No CUDA device.* Try: device='cpu'"):
            choose_device("cuda")


def test_a_missing_optional_dependency_names_the_install_command():
    with pytest.raises(UserError) as caught:
        needed("nosuchpackage.part", "ray", "--engine ray")
    assert str(caught.value) == (
        "--engine ray: nosuchpackage is not installed. It is a package of the extra ray. "
        "Try: pip install -c constraints.txt -e '.[ray]'"
    )
