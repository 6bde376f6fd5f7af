"""The versions that are tested are those that pyproject.toml allows."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def lower_bounds(requirements: list[str]) -> dict[str, str]:
    found = (re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", text) for text in requirements)
    return {match[1]: match[2] for match in found if match is not None}


def padded(version: str) -> list[int]:
    numbers = [int(part) for part in version.split(".")]
    return numbers + [0] * (3 - len(numbers))


def test_the_oldest_allowed_versions_are_the_ones_that_ci_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    allowed = lower_bounds([*project["dependencies"], *extras["sources"]])
    allowed |= {
        name: version
        for name, version in lower_bounds(extras["dev"]).items()
        if name in ("tiktoken", "tokenizers", "transformers")
    }
    assert allowed.pop("torch")  # what is installed depends on the CPU builds there are
    lines = (ROOT / "constraints-oldest.txt").read_text("utf-8").splitlines()
    installed = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {name: padded(version) for name, version in installed.items()} == {
        name: padded(version) for name, version in allowed.items()
    }


def test_the_tests_that_ci_runs_with_other_versions_are_there() -> None:
    script = (ROOT / ".ci" / "versions").read_text("utf-8")
    named = re.findall(r"(?:tests|src)/[\w/]+(?:\.py)?", script)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []
