"""What the machine tells of a process's memory."""

import subprocess
import sys

MIB = 1 << 20
NEW = (
    "from groundup.base.device import *; from groundup.base.machine import *;"
    "cpu = choose_device('cpu');"
    "block = bytearray(b'x') * (200 << 20); held = memory_in_use_bytes(cpu); del block;"
    "print(held, memory_in_use_bytes(cpu), peak_memory_bytes(cpu))"
)


def test_the_peak_is_what_this_process_held_at_most():
    """And not what its parent held, where the kernel's older count begins."""
    block = bytearray(b"x") * (800 * MIB)
    done = subprocess.run([sys.executable, "-c", NEW], capture_output=True, text=True, timeout=120)
    del block
    most, now, peak = map(int, done.stdout.split())
    assert now < most - 150 * MIB
    assert most - 20 * MIB < peak < most + 20 * MIB  # the kernel counts in batches
