"""What every test may use."""

import os

# Before torch is imported, and for the processes that tests start: one thread makes small tests
# fast and sums bit-identical, and leaves the other cores to the other test processes.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import inspect
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jaxtyping
import pytest

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in the background by a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)

jaxtyped = jaxtyping.jaxtyped


def annotates_shapes(thing: Any) -> bool:
    """Whether a function or class, or one of the types inside an annotation, has a shape."""
    if inspect.isclass(thing) and issubclass(thing, jaxtyping.AbstractArray):
        return True
    parts = (*getattr(thing, "__annotations__", {}).values(), *get_args(thing))
    return any(annotates_shapes(part) for part in parts if not isinstance(part, str))


def jaxtyped_where_annotated(*, typechecker: Any) -> Any:
    """Check the calls of functions with shapes only; the others took a fifth of the tests' time."""
    check = jaxtyped(typechecker=typechecker)
    return lambda thing: check(thing) if annotates_shapes(thing) else thing


# What `--jaxtyping-packages` puts before every function and class.
jaxtyping.jaxtyped = jaxtyped_where_annotated  # type: ignore[assignment]

FIXTURES = Path(__file__).parent / "fixtures"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
ABSENT = f"there is no data folder at {SHARED}"


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The small texts of tests/fixtures, which every checkout has."""
    return FIXTURES


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The large texts and the GPT-2 tokenizer beside the checkout; skips where they are absent.

    A test that can show the same on `fixtures` takes those.
    """
    if not SHARED.is_dir():
        pytest.skip(ABSENT)
    return SHARED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report what a checkout without the shared folder does not test."""
    skipped = terminalreporter.stats.get("skipped", [])
    n_skipped = sum(ABSENT in str(report.longrepr) for report in skipped)
    if n_skipped:
        terminalreporter.write_line(f"NOT TESTED: {n_skipped} tests were skipped: {ABSENT}.")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `gpu` where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def _shapes_unchecked_on_a_gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """`torch.compile` cannot trace the checks of shapes, which the tests of a CPU make."""
    on_gpu = request.node.get_closest_marker("gpu") is not None
    if on_gpu:
        jaxtyping.config.update("jaxtyping_disable", True)
    yield
    if on_gpu:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Set the threads again, because a test may have changed them.

    Not every test needs torch, and .ci/run tests what works without it.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of 1,350 characters."""
    from small_runs import make_data

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
