"""Configs as TOML and back: defaults < TOML recipe < command line.

Config classes are declared with `groundup.base.fields`. A TOML file has a table for each config
inside a config; a flat file, as version 0.1 wrote them, is understood, too, and so are old names.
"""

import dataclasses
import difflib
import tomllib
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from groundup.base.errors import UserError
from groundup.base.fields import field_kinds, leaves
from groundup.base.kinds import Kind, Mark

C = TypeVar("C")

RENAMED: dict[str, str] = {
    "n_micro_batches": "grad_accumulation_steps",
    "recompute": "activation_checkpointing",
    "table_learning_rate": "embedding_learning_rate",
    "vector_learning_rate": "norm_learning_rate",
    "muon_iterations": "newton_schulz_steps",
    "tied_head": "tie_embeddings",
    "minutes": "train_time",
}
"""Names of version 0.1 and what they are now. The place of a setting follows from its name."""


def _from_minutes(value: Any) -> Any:
    try:
        return f"{float(value):g}m"
    except (TypeError, ValueError):  # "2m", as it is written now, or a value that is refused later
        return value


CONVERTED: dict[str, Callable[[Any], Any]] = {"minutes": _from_minutes}
"""Old names whose values are written in another way now."""


def from_mapping(cls: type[C], mapping: dict[str, Any], *, where: str | Path | None = None) -> C:
    """Make a config from nested plain values, as TOML or JSON holds them.

    Args:
        cls: The config class.
        mapping: Its settings; those left out have their defaults.
        where: The file that they come from.

    Raises:
        UserError: A setting is unknown, has the wrong type or is out of its range.
    """
    values: dict[str, Any] = {}
    kinds = field_kinds(cls)
    for key, value in with_current_names(cls, mapping, where=where).items():
        values[key] = _convert(kinds[key], value, where)
    try:
        return cls(**values)
    except UserError as error:
        if where is None or error.where is not None:
            raise
        settings, command = error.settings, error.command
        raise UserError(error.message, where=where, command=command, settings=settings) from error


def _convert(kind: Kind, value: Any, where: str | Path | None) -> Any:
    """A value as TOML holds it, in the type of its field as far as it fits."""
    if isinstance(value, str) and kind.is_none(value):
        return None
    if Mark.ZERO_IS_NONE in kind.marks and value == 0:
        return None
    if kind.is_config and isinstance(value, dict):
        return from_mapping(kind.type, value, where=where)
    if isinstance(value, list) and typing.get_origin(kind.type) is tuple:
        inner = Kind.of(typing.get_args(kind.type)[0])
        return tuple(_convert(inner, item, where) for item in value)
    if isinstance(value, str) and typing.get_origin(kind.type) is tuple:
        raise UserError(f"{value!r} is found. {kind.expected}", where=where)
    if kind.type is float and type(value) is int:
        return float(value)
    if kind.type is Path and isinstance(value, str):
        return Path(value)
    return value


def with_current_names(
    cls: type, mapping: dict[str, Any], *, where: str | Path | None = None
) -> dict[str, Any]:
    """Replace old names by new ones, and put the settings of a flat file into their tables.

    >>> from groundup.train.config import PretrainConfig
    >>> with_current_names(PretrainConfig, {"steps": 5, "muon_iterations": 3})
    {'steps': 5, 'optimizer': {'newton_schulz_steps': 3}}

    Raises:
        UserError: A setting is unknown, or is there under two names.
    """
    kinds, known = field_kinds(cls), leaves(cls)
    result: dict[str, Any] = {}
    for key, value in mapping.items():
        kind = kinds.get(key)
        # In a flat file `optimizer` is a name, and not yet a table.
        is_name = kind is not None and kind.is_config and isinstance(value, str) and key in known
        if kind is not None and not is_name:
            is_table = kind.is_config and isinstance(value, dict)
            table = {key: with_current_names(kind.type, value, where=where) if is_table else value}
        else:
            name = key if key in known else RENAMED.get(key, key)
            if name not in known:
                raise _unknown(key, [*kinds, *known], where)
            value = CONVERTED[key](value) if key in CONVERTED else value
            table = nested(known[name].path, value)
        if _overlap(result, table):
            raise UserError(f"The setting {key!r} is given twice.", where=where)
        result = merge(result, table)
    return result


def _unknown(key: str, known: Iterable[str], where: str | Path | None) -> UserError:
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"Did you mean {nearest[0]!r}?" if nearest else "There is no setting of this name."
    return UserError(f"Unknown setting {key!r}. {hint}", where=where)


def _overlap(first: Any, second: Any) -> bool:
    """Whether two nested mappings set the same value."""
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return True
    return any(_overlap(first[key], second[key]) for key in first.keys() & second.keys())


def nested(path: Iterable[str], value: Any) -> dict[str, Any]:
    """A mapping with one value at a path.

    >>> nested(("model", "d_model"), 64)
    {'model': {'d_model': 64}}
    """
    for key in reversed(tuple(path)):
        value = {key: value}
    mapping: dict[str, Any] = value
    return mapping


def merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Lay `over` on `under`, table by table.

    >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    """
    result = dict(under)
    for key, value in over.items():
        inner = result.get(key)
        both = isinstance(value, dict) and isinstance(inner, dict)
        result[key] = merge(inner, value) if both else value  # type: ignore[arg-type]
    return result


def read_recipe(path: Path | str) -> dict[str, Any]:
    """Read a TOML recipe.

    Raises:
        UserError: It is missing or not TOML in UTF-8, with or without a byte-order mark.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(
            "There is no such file. A TOML file with settings is expected.", where=path
        ) from error
    except OSError as error:
        raise UserError(f"This recipe cannot be read: {error.strerror}.", where=path) from error
    except UnicodeDecodeError as error:
        raise UserError(
            "This recipe is not in UTF-8. Save it again as UTF-8.", where=path
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"This is not a TOML recipe: {error}.", where=path) from error


def to_mapping(config: Any) -> dict[str, Any]:
    """Turn a config into nested plain values.

    TOML has no None: "none" is written where the default is another value.
    """
    result: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is None:
            if field.default is not None:
                result[field.name] = "none"
            continue
        if dataclasses.is_dataclass(value):
            value = to_mapping(value)
        elif isinstance(value, Path):
            value = str(value)
        elif isinstance(value, tuple):
            value = list(value)
        result[field.name] = value
    return result


def to_toml(config: Any) -> str:
    """Write a config as TOML; `read_recipe` and `from_mapping` turn it back into the same."""
    return tomli_w.dumps(to_mapping(config))
