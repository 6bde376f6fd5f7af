"""The structure of the package: small parts, no import cycles, and a step that can be read."""

import ast
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FrameType
from typing import Any

import jaxtyping
import pytest
import torch
from small_runs import MODEL

from groundup.cli.verbs import VERBS
from groundup.data.loader import Loader
from groundup.data.store import TokenStore
from groundup.data.windows import Windows
from groundup.model.gpt import GPT
from groundup.train.loop import train_steps
from groundup.train.muon import orthogonalize
from groundup.train.optimizer import Optimizer
from groundup.train.schedule import Schedule

SOURCE = Path(__file__).resolve().parents[1] / "src" / "groundup"
FILES = sorted(SOURCE.rglob("*.py"))


def n_lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def test_no_package_holds_more_than_15_percent_of_the_lines() -> None:
    by_package: Counter[str] = Counter()
    for file in FILES:
        by_package[file.relative_to(SOURCE).parts[0]] += n_lines(file)
    assert len(by_package) > 15
    package, most = by_package.most_common(1)[0]
    assert most <= 0.15 * by_package.total(), package


def test_no_file_is_longer_than_400_lines() -> None:
    assert [file.name for file in FILES if n_lines(file) > 400] == []


def test_shapes_are_checked_wherever_they_are_annotated() -> None:
    settings = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    options = settings["tool"]["pytest"]["ini_options"]["addopts"].split("--jaxtyping-packages=")
    *checked, _ = options[1].split(",")
    for file in FILES:
        if "from jaxtyping import" in file.read_text(encoding="utf-8"):
            name = ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts)
            assert any(f"{name}.".startswith(f"{package}.") for package in checked), name


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="orthogonalize"):
        orthogonalize(torch.zeros(3), dtype=torch.float32)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_the_view_of_a_command_is_thin(verb: Any) -> None:
    module = verb.view.split(":")[0]
    assert n_lines(SOURCE.parent / f"{module.replace('.', '/')}.py") <= 80


def imports(name: str, file: Path, names: set[str]) -> set[str]:
    """The modules of the package that a file imports anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & names or {str(node.module)}
    return found & names - {name}


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_import_cycle_not_even_inside_functions_or_under_type_checking() -> None:
    modules = {
        ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): file
        for file in FILES
    }
    graph = {name: imports(name, file, set(modules)) for name, file in modules.items()}
    assert sum(map(len, graph.values())) > 500
    assert find_cycle(graph) == []
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) != []


def files_run(call: Callable[[], object]) -> set[str]:
    """The files of the package with a function that runs until the call returns."""
    found: set[str] = set()

    def profile(frame: FrameType, event: str, argument: object) -> None:
        found.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(before)
    paths = {Path(name) for name in found}
    return {str(path.relative_to(SOURCE)) for path in paths if path.is_relative_to(SOURCE)}


def test_one_training_step_can_be_read_in_15_files(data: Path) -> None:
    """From a batch in memory to the updated weights; the reading of the batch comes on top."""
    store = TokenStore.open(data / "train")
    loader = Loader(Windows(store, MODEL.context_length), 4, seed=0)
    model = GPT(MODEL, seed=0)
    steps = train_steps(loader, model.loss, Optimizer(model), Schedule(n_steps=9))
    next(steps)  # what runs only once is not counted
    names = files_run(lambda: next(steps))
    assert {"train/loop.py", "train/muon.py", "model/gpt.py", "model/attention.py"} <= names
    assert len(names) <= 15, sorted(names)
    loader.at(10**6)  # not one of the batches that were read together
    more = files_run(lambda: next(steps)) - names
    assert {"data/order.py", "data/batch.py"} <= more
    assert len(more) <= 6, sorted(more)
