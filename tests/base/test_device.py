"""Choice of the device, optional dependencies, and the memory of a process."""

import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
import torch

from groundup.base import machine
from groundup.base.device import choose_device, choose_dtype, set_threads
from groundup.base.errors import UserError
from groundup.base.extras import needed
from groundup.base.machine import free_memory_bytes, usable_memory_bytes

MIB = 1 << 20
NEW = (
    "from groundup.base.device import *; from groundup.base.machine import *;"
    "cpu = choose_device('cpu');"
    "block = bytearray(b'x') * (200 << 20); held = memory_in_use_bytes(cpu); del block;"
    "print(held, memory_in_use_bytes(cpu), peak_memory_bytes(cpu))"
)


def test_bf16_is_chosen_from_ampere_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for capability, dtype in (((7, 5), torch.float32), ((8, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert choose_dtype("auto", torch.device("cuda")) == dtype


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


def test_a_gpu_that_is_named_is_the_one_that_torch_uses(monkeypatch):
    """Its events and its random numbers are those of the current device."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert choose_device("cuda") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("cuda") == torch.device("cuda:1")
    assert chosen == [torch.device("cuda:1")] * 2


def test_memory_that_torch_keeps_for_reuse_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (50, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 45)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # each process has a GPU of its own
    gpu = torch.device("cuda")
    assert (free_memory_bytes(gpu), usable_memory_bytes(gpu)) == (90, 95)


def test_processes_of_torchrun_share_the_free_memory_of_their_machine(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=90))
    cpu = torch.device("cpu")
    assert free_memory_bytes(cpu) == 90
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert free_memory_bytes(cpu) == 30


@pytest.mark.parametrize(("age_s", "counted_s"), [(2.0, 2.0), (500.0, 0.0), (-3.0, 0.0)])
def test_the_age_of_a_process_counts_where_it_was_started_for_the_command(
    monkeypatch, age_s, counted_s
):
    monkeypatch.setattr(machine, "process_age_s", lambda: age_s)
    assert time.monotonic() - machine.started_at() == pytest.approx(counted_s, abs=0.5)


def test_a_missing_optional_dependency_names_the_install_command():
    with pytest.raises(UserError) as caught:
        needed("nosuchpackage.part", "ray", "--engine ray")
    assert str(caught.value) == (
        "--engine ray: nosuchpackage is not installed. It is a package of the extra ray. "
        "Try: pip install -c constraints.txt -e '.[ray]'"
    )
