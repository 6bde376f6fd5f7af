"""Config classes: what every config checks, and one flat name for each of its settings.

A config is a frozen dataclass that inherits from `Config`. The type of a field states what it may
be, and the docstring under it is its help on the command line:

    @dataclass(frozen=True, kw_only=True)
    class OptimizerConfig(Config):
        learning_rate: Positive = 0.02
        \"\"\"Learning rate of the weight matrices.\"\"\"

A config may hold other configs. Their fields have one flat name each (`learning_rate`), which is
the option of the command line (`--learning-rate`) and the keyword of `replace_settings`.
"""

import dataclasses
import difflib
import functools
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from groundup.base.errors import UserError
from groundup.base.kinds import Kind, Mark, OptionName, Section, check_value

C = TypeVar("C")
F = TypeVar("F", bound=Callable[..., Any])


class _Checked(type):
    """The type of config classes: values are converted and checked before a config is made.

    `__init__` gets what the fields say, so that a runtime type checker has nothing to object to.
    """

    if not typing.TYPE_CHECKING:

        def __call__(cls, *args: Any, **values: Any) -> Any:
            return super().__call__(*args, **checked(cls, values))


@dataclass(frozen=True, kw_only=True)
class Config(metaclass=_Checked):
    """A config class: its values are checked against the types and ranges of its fields."""

    def __post_init__(self) -> None:
        """Check what concerns several fields; the values are checked already."""


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One setting, of a config or of a config inside it."""

    name: str
    """Its flat name, different from that of every other setting."""
    path: tuple[str, ...]
    """Where it is: ("optimizer", "learning_rate")."""
    owner: type
    """The class that has the field."""
    kind: Kind
    default: Any
    section: str
    """The heading of its group in the help; empty for the settings of the outer config."""
    marks: frozenset[Mark]
    """Its own, and those of the configs that it is in."""


def _cached(function: F) -> F:
    # mypy does not consider `type[...]` hashable.
    return functools.cache(function)  # type: ignore[return-value]


@_cached
def field_kinds(cls: type) -> dict[str, Kind]:
    """The kind of each field of a config class."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: Kind.of(hints[field.name]) for field in dataclasses.fields(cls)}


@_cached
def leaves(cls: type) -> dict[str, Leaf]:
    """All settings of a config class by their flat names, those of nested configs included."""
    found: dict[str, Leaf] = {}
    for leaf in _leaves(cls, None, (), "", frozenset()):
        assert leaf.name not in found, f"two settings are named {leaf.name}"
        found[leaf.name] = leaf
    return found


def _leaves(
    cls: type, instance: Any, path: tuple[str, ...], section: str, marks: frozenset[Mark]
) -> Iterator[Leaf]:
    kinds = field_kinds(cls)
    for field in dataclasses.fields(cls):
        kind, place = kinds[field.name], (*path, field.name)
        if instance is not None:
            default = getattr(instance, field.name)
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        else:
            default = field.default
        if kind.is_config and not kind.optional:  # a table that may be absent is one setting
            title = field.name.replace("_", " ").capitalize()
            yield from _leaves(kind.type, default, place, title, marks | kind.marks)
            continue
        own_section, own_name = kind.find(Section), kind.find(OptionName)
        yield Leaf(
            name=own_name.name if own_name else field.name,
            path=place,
            owner=cls,
            kind=kind,
            default=default,
            section=own_section.title if own_section else section,
            marks=marks | kind.marks,
        )


def checked(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """Check values for the fields of a config against their types and ranges.

    Converted are: a string for a path, a path for a string, one value or a list for a tuple, true
    and false where "on" and "off" are choices, and the numbers of numpy. A field of type
    `str | Path` holds a string.

    Raises:
        UserError: A value has the wrong type or is out of its range.
    """
    kinds = field_kinds(cls)
    return {
        name: check_value(_shown_name(name, kinds[name]), kinds[name], value)
        if name in kinds
        else value
        for name, value in values.items()
    }


def _shown_name(name: str, kind: Kind) -> str:
    """The flat name of a field, by which messages call it."""
    own = kind.find(OptionName)
    return name if own is None else own.name


def setting(config: Any, leaf: Leaf) -> Any:
    """The value of a setting."""
    return functools.reduce(getattr, leaf.path, config)


def changed_settings(config: Any) -> frozenset[str]:
    """The flat names of the settings that differ from their defaults."""
    return frozenset(
        name for name, leaf in leaves(type(config)).items() if setting(config, leaf) != leaf.default
    )


def refuse_unused(config: Any, names: Iterable[str], why: str) -> None:
    """Refuse the first of some settings that differs from its default, because it has no effect.

    Args:
        config: The settings.
        names: Flat names of the settings.
        why: The error, with {name} for the name.

    Raises:
        UserError: There is one.
    """
    changed = changed_settings(config)
    name = next((name for name in names if name in changed), None)
    if name is not None:
        default = leaves(type(config))[name].default
        raise UserError(why.format(name=name), settings={name: default})


def marked(cls: type, mark: Mark) -> frozenset[str]:
    """The flat names of the settings with a mark."""
    return frozenset(name for name, leaf in leaves(cls).items() if mark in leaf.marks)


def replace_settings(config: C, /, **changes: Any) -> C:
    """Copy a config with some settings changed, wherever in it they are.

    A whole nested config is given by the name of its field: `model=GPTConfig(...)`.

    >>> from groundup.train.config import PretrainConfig
    >>> config = replace_settings(PretrainConfig(), learning_rate=0.1, n_layers=2, steps=5)
    >>> config.optimizer.learning_rate, config.model.n_layers, config.steps
    (0.1, 2, 5)

    Raises:
        UserError: There is no setting of this name, or its value is not allowed.
    """
    known, kinds = leaves(type(config)), field_kinds(type(config))
    whole = {n: v for n, v in changes.items() if n in kinds and dataclasses.is_dataclass(v)}
    config = dataclasses.replace(config, **whole) if whole else config  # type: ignore[type-var]
    tree: dict[str, Any] = {}
    for name in changes.keys() - whole.keys():
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *kinds], n=1, cutoff=0.6)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UserError(f"There is no setting {name!r} in {type(config).__name__}.{hint}")
        *tables, field = known[name].path
        functools.reduce(lambda table, key: table.setdefault(key, {}), tables, tree)[field] = (
            changes[name]
        )
    copied: C = _replaced(config, tree)
    return copied


def _replaced(config: Any, tree: dict[str, Any]) -> Any:
    changes = {
        field: _replaced(getattr(config, field), value) if isinstance(value, dict) else value
        for field, value in tree.items()
    }
    return dataclasses.replace(config, **changes)
