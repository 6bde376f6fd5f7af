"""A small run and settings that train it in a second."""

from pathlib import Path

import pytest
from digit_reward import small_config, write_base

from groundup.alignment.reinforce.config import ReinforceConfig


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_base(tmp_path / "my run")


@pytest.fixture
def config(run: Path) -> ReinforceConfig:
    return small_config(run)
