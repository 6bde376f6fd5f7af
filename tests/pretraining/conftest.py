# The package is imported inside fixtures: the plugin of jaxtyping has to come before it.
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from small_runs import make_data

    make_data(tmp_path / "data")
    return tmp_path
