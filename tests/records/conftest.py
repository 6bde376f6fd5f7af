from pathlib import Path

import pytest
from untrained_run import untrained_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return untrained_run(tmp_path / "my run")
