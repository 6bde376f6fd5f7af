"""Every number in a config has a range, so that none fails late in torch, numpy or a loop."""

import dataclasses
import importlib
import math
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import groundup
from groundup.base.errors import UserError
from groundup.base.fields import Config, field_kinds
from groundup.base.fields import checked as check_values
from groundup.base.kinds import OptionName
from groundup.model.config import GPTConfig
from groundup.train.optimizer import OptimizerConfig

for module in pkgutil.walk_packages(groundup.__path__, "groundup."):
    if module.name.rsplit(".")[-1] in ("config", "schedule", "optimizer"):
        importlib.import_module(module.name)


def classes(base: type[Config] = Config) -> Iterator[type[Config]]:
    for cls in base.__subclasses__():
        yield from (cls, *classes(cls))


NUMBERS = sorted(
    {
        (cls, name, kind.type)
        for cls in classes()
        if cls.__module__.startswith("groundup.")
        for name, kind in field_kinds(cls).items()
        if kind.type in (int, float)
    },
    key=str,
)


def checked(cls: type[Config], name: str, value: Any) -> None:
    """What a config does when it is made; the tests' own type checker sees no wrong value."""
    needed = {
        field.name: 5
        for field in dataclasses.fields(cls)
        if field.default is field.default_factory is dataclasses.MISSING
    }
    config = cls(**needed)
    check_values(cls, {**vars(config), name: value})


def test_the_configs_are_found() -> None:
    assert len(NUMBERS) > 90
    assert {"seed", "steps", "temperature", "learning_rate"} <= {name for _, name, _ in NUMBERS}


@pytest.mark.parametrize(("cls", "name", "type_"), NUMBERS, ids=lambda value: str(value))
def test_every_number_has_a_range(cls: type, name: str, type_: type) -> None:
    kind = field_kinds(cls)[name]
    assert kind.bounds, "a range is missing"
    wrong = [-(10**30), math.nan, -math.inf, math.inf, True, "many"]
    wrong += [10**30, 2**63, 1.5] if type_ is int else []
    wrong += [-1] if name == "seed" else []
    wrong += [1e300] if "rate" in name or cls in (GPTConfig, OptimizerConfig) else []
    flat = kind.find(OptionName)
    for value in wrong:
        with pytest.raises(UserError, match=name if flat is None else flat.name):
            checked(cls, name, value)
