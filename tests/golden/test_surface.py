"""What users depend on: the options of every command, and the public names. Not the sentences.

To store both again after an intended change: `python tests/golden/test_surface.py`.
"""

import dataclasses
import inspect
import typing
from pathlib import Path

import groundup
from groundup.base.fields import Leaf
from groundup.base.kinds import Kind
from groundup.cli.options import options_of
from groundup.cli.verbs import VERBS

HERE = Path(__file__).parent


def options() -> str:
    """One line per option of every command: name, type or choices, default, group."""
    lines = []
    for verb in VERBS:
        lines.append(f"{verb.name} [{verb.positional}]")
        known = options_of(verb.config_class())
        lines += [f"  {describe(leaf)}" for leaf in sorted(known.values(), key=lambda x: x.name)]
    return "\n".join(lines) + "\n"


def describe(leaf: Leaf) -> str:
    """The name, the type with its range, the default and the place in a TOML file."""
    name, path = leaf.name.replace("_", "-"), ".".join(leaf.path)
    return f"--{name}: {kind(leaf.kind)} = {leaf.default} [{path}]"


def kind(kind: Kind) -> str:
    """The type or the choices, with the range."""
    if kind.choices:
        name = "|".join(map(str, kind.choices))
    elif typing.get_origin(kind.type) is tuple:
        name = "list"
    else:
        name = kind.type.__name__
    bounds = "".join(f", {words} {bound:g}" for words, bound in kind.bounds)
    return f"{name}{' or none' if kind.optional else ''}{bounds}"


def public_names() -> str:
    """Every public name with its parameters or fields."""
    lines = []
    for name in groundup.__all__:  # type: ignore[attr-defined]
        thing = getattr(groundup, name)
        if dataclasses.is_dataclass(thing):
            fields = ", ".join(field.name for field in dataclasses.fields(thing))
            lines.append(f"{name}: {fields}")
        else:
            lines.append(f"{name}({', '.join(inspect.signature(thing).parameters)})")
    return "\n".join(lines) + "\n"


def test_the_options_are_as_stored() -> None:
    assert options() == (HERE / "options.txt").read_text(encoding="utf-8")


def test_the_public_names_are_as_stored() -> None:
    assert public_names() == (HERE / "api.txt").read_text(encoding="utf-8")


if __name__ == "__main__":
    (HERE / "options.txt").write_text(options(), encoding="utf-8")
    (HERE / "api.txt").write_text(public_names(), encoding="utf-8")
