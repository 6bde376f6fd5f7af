"""What every test may use."""

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
    """One thread makes small tests fast and sums bit-identical."""
    torch.set_num_threads(1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of 1,350 characters."""
    return make_data(tmp_path / "data")
