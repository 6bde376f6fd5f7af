from pathlib import Path

import pytest
from small_runs import make_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_data(tmp_path / "data")
    return tmp_path
