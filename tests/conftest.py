"""What every test may use."""

import os

# Before torch is imported, and for the processes that tests start: one thread makes small tests
# fast and sums bit-identical, and leaves the other cores to the other test processes.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import time
from pathlib import Path

import pytest
import torch
from small_runs import make_data


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real texts and labelled sets beside the checkout; skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real texts beside the checkout are absent")
    return folder


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Set the threads again, because a test may have changed them."""
    torch.set_num_threads(1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of 1,350 characters."""
    return make_data(tmp_path / "data")


class FakeClock:
    """A clock that only the test moves; each reading takes a millisecond, so no span is zero."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        self.now_s += 0.001
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Replace the clocks of `time`, so that the speed of the machine decides nothing."""
    fake = FakeClock()
    monkeypatch.setattr(time, "monotonic", fake)
    monkeypatch.setattr(time, "perf_counter", fake)
    return fake
