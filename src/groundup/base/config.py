"""The one config loader: defaults < TOML recipe < command line, over frozen dataclasses.

A config class sits beside the function that reads it. Its fields have literal defaults and a
docstring under each one. `describe` reads all that from the source without importing the module,
so that `--help` needs no torch; `from_mapping` and `to_toml` work on the imported class.
"""

import ast
import dataclasses
import difflib
import functools
import importlib.util
import tomllib
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from groundup.base.errors import UserError

C = TypeVar("C")
Range = tuple[str, float | int, float | int]
"""A number's name, and what it may be, from and to."""
TINY, HUGE = 1e-12, 1e100
"""As good as nothing and as infinity, and neither."""
_NAMED = "_named"
"""An attribute: what was named when a config was read, be it the default."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One option as the source tells it."""

    path: tuple[str, ...]
    """Where it stands: ("model", "d_model")."""
    annotation: str
    """Its type, as written."""
    default: str
    """Its default, as written."""
    help: str
    """Its docstring, on one line."""

    @property
    def leaf(self) -> str:
        """The last part of the path: the option's name."""
        return self.path[-1]

    @property
    def choices(self) -> tuple[str, ...] | None:
        """The values of a Literal, else None."""
        if not self.annotation.startswith("Literal["):
            return None
        tree = ast.parse(self.annotation, mode="eval").body
        assert isinstance(tree, ast.Subscript)
        return tuple(str(value) for value in _literal_values(tree.slice))


@functools.cache
def describe(target: str) -> tuple[Field, ...]:
    """List the fields of "module:Class" from the source alone, nested configs flattened.

    >>> [f.leaf for f in describe("groundup.base.config:Field")][:2]
    ['path', 'annotation']
    """
    module_name, class_name = target.split(":")
    tree = _parse(module_name)
    imports = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    local = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    fields: list[Field] = []
    for base in local[class_name].bases:
        assert isinstance(base, ast.Name)
        inherited = f"{module_name}:{base.id}" if base.id in local else imports[base.id]
        fields += describe(inherited)
    body = local[class_name].body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        name, annotation = node.target.id, ast.unparse(node.annotation)
        default = ast.unparse(node.value) if node.value else ""
        if default == f"{annotation}()":
            inner = f"{module_name}:{annotation}" if annotation in local else imports[annotation]
            fields += [
                dataclasses.replace(field, path=(name, *field.path)) for field in describe(inner)
            ]
            continue
        text = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = " ".join(str(after.value.value).split())
        fields.append(Field(path=(name,), annotation=annotation, default=default, help=text))
    return tuple(fields)


def from_mapping(cls: type[C], mapping: dict[str, Any], *, where: str = "the config") -> C:
    """Make a config from nested plain values, as TOML or the command line gives them.

    Raises:
        UserError: A key is unknown (the nearest ones are named) or a value has the wrong type.
    """
    known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=3, cutoff=0.4) or sorted(known)
            raise UserError(f"unknown key {key!r}", need=" or ".join(nearest), where=where)
        values[key] = _convert(hints[key], value, key, where)
    config = cls(**values)
    object.__setattr__(config, _NAMED, frozenset(values))
    return config


def given(config: Any) -> set[str]:
    """List what was set by hand: named when the config was read, or other than its default.

    >>> given(Field(path=("a",), annotation="int", default="1", help="")) >= {"path", "help"}
    True
    """
    names: set[str] = set()
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            names |= {f"{field.name}.{inner}" for inner in given(value)}
        elif field.name in getattr(config, _NAMED, ()) or value != field.default:
            names.add(field.name)
    return names


def read_recipe(path: Path | str) -> dict[str, Any]:
    """Read a TOML recipe.

    Raises:
        UserError: It is missing or not TOML in UTF-8, with or without a byte-order mark.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError("this recipe is missing", where=path, type_this="ls recipes") from error
    except OSError as error:
        raise UserError(f"this recipe cannot be read ({error.strerror})", where=path) from error
    except UnicodeDecodeError as error:
        raise UserError(
            "this recipe is not in UTF-8", need="the file saved again as UTF-8", where=path
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"this is not a TOML recipe ({error})", where=path) from error


def check_ranges(config: Any, ranges: Iterable[Range]) -> None:
    """Hold settings against what they may be; no comparison holds for what is not a number.

    Raises:
        UserError: One is outside.
    """
    for name, least, most in ranges:
        value = getattr(config, name)
        if value is not None and not least <= value <= most:
            need = "a number above 0" if least == TINY else f"a number of at least {least:g}"
            if most < HUGE:
                need += f" and at most {most:g}"
            raise UserError(f"--{name.replace('_', '-')} is {value:g}", need=need)


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


def to_mapping(config: Any) -> dict[str, Any]:
    """Turn a config into nested plain values; TOML has no None: "off" says it where it must."""
    result: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is None:
            if field.default is not None:
                result[field.name] = "off"
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


def _parse(module_name: str) -> ast.Module:
    # find_spec imports parent packages only; ours are empty but for a docstring.
    spec = importlib.util.find_spec(module_name)
    assert spec is not None, module_name
    assert spec.origin is not None, module_name
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _literal_values(node: ast.expr) -> list[Any]:
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return [ast.literal_eval(part) for part in parts]


def _convert(hint: Any, value: Any, key: str, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None or (isinstance(value, str) and value.lower() in ("none", "off")):
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, key, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if isinstance(value, dict):
            return from_mapping(hint, value, where=f"{where} [{key}]")
    elif origin is typing.Literal:
        for choice in arguments:
            if value == choice or str(choice) == value:
                return choice
        choices = " or ".join(map(str, arguments))
        raise UserError(f"{key} = {value!r}", need=choices, where=where)
    elif origin is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(_convert(arguments[0], item, key, where) for item in value)
    elif hint is bool:
        words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in words:
            return words[value.lower()]
    elif hint is int and not isinstance(value, bool):
        try:
            if isinstance(value, (int, str)):
                return int(str(value).replace("_", ""))
        except ValueError:
            pass
    elif hint is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    elif hint in (str, Path) and isinstance(value, (str, Path)):
        return hint(value)
    kind = getattr(hint, "__name__", str(hint))
    raise UserError(f"{key} = {value!r}", need=f"a value of type {kind}", where=where)
