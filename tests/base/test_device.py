"""What the machine tells of itself."""

import subprocess
import sys

from groundup.base.device import choose_device, memory_in_use_bytes, peak_memory_bytes

MIB = 1 << 20


def test_the_peak_is_there_after_the_memory_is_given_back():
    device = choose_device("cpu")
    block = bytearray(b"x") * (200 * MIB)
    held = memory_in_use_bytes(device)
    del block
    assert memory_in_use_bytes(device) < held
    assert peak_memory_bytes(device) >= held - 20 * MIB  # the kernel counts in batches


def test_the_peak_is_this_process_s_own():
    """The kernel's older count starts a child at what its parent held."""
    block = bytearray(b"x") * (600 * MIB)
    code = (
        "from groundup.base.device import *;"
        "print(peak_memory_bytes(choose_device('cpu')) - memory_in_use_bytes(choose_device('cpu')))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    del block
    assert int(done.stdout) < 200 * MIB
