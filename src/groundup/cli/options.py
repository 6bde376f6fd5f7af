"""The options of a command, made from the fields of its config class, for cyclopts.

All settings are flat options (`--learning-rate`), in groups like the configs that they belong to.
cyclopts passes on only the options that were typed, so that a recipe can give the others, and a
budget can choose them.
"""

import dataclasses
import inspect
import keyword
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter, Token, convert

from groundup.base.config import from_mapping, merge, nested, read_recipe, with_current_names
from groundup.base.errors import UserError
from groundup.base.fields import Leaf, leaves
from groundup.base.kinds import Mark
from groundup.base.surrogates import without_surrogates
from groundup.cli.verbs import Verb

_COMMON = "Common"
_LAST = "Experimental"
SHORT_OPTIONS = {"-o": "--out"}
HYPHEN = "\0-"
"""Replaces the argument "-" (standard input), which cyclopts would read as an option."""
_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


def options_of(cls: type) -> dict[str, Leaf]:
    """The settings of a config class that the command line has options for."""
    return {n: leaf for n, leaf in leaves(cls).items() if Mark.NO_OPTION not in leaf.marks}


def help_texts(cls: type) -> dict[str, str]:
    """The docstring under each field of a config class, without those of nested configs."""
    from docstring_parser import parse_from_object

    return {  # it reads the fields of one class, hence the bases one by one
        param.arg_name: " ".join((param.description or "").split())
        for base in reversed(cls.__mro__)
        if dataclasses.is_dataclass(base)
        for param in parse_from_object(base).params
    }


def make_command(verb: Verb) -> Callable[..., tuple[Any, frozenset[str]]]:
    """Make the function of a command, whose signature has all its options.

    It returns the config and the flat names of the settings that were given explicitly.
    """
    cls, positional = verb.config_class(), verb.positional
    known = options_of(cls)
    titles = dict.fromkeys([_COMMON, *(leaf.section or _COMMON for leaf in known.values())])
    ordered = sorted(titles, key=lambda title: title == _LAST)
    groups = {title: Group(title, sort_key=place) for place, title in enumerate(ordered)}
    owners = dict.fromkeys(leaf.owner for leaf in known.values())
    texts = {owner: help_texts(owner) for owner in owners}
    signature = []
    for leaf in known.values():
        text = texts[leaf.owner].get(leaf.path[-1], "")
        group = groups[leaf.section or _COMMON]
        signature.append(_parameter(leaf, text, group, leaf.name == positional))
    text = "TOML file with settings. Options on the command line take precedence."
    recipe = Parameter(alias="--recipe", group=groups[_COMMON], help=text, show_default=False)
    hint = Annotated[Path | None, recipe]
    kind = inspect.Parameter.KEYWORD_ONLY
    signature.append(inspect.Parameter("config", kind, default=None, annotation=hint))
    signature.sort(key=lambda parameter: parameter.kind)

    # The underscores keep these names apart from those of fields: cyclopts looks both up.
    def command(*_words: Any, **_options: Any) -> tuple[Any, frozenset[str]]:
        typed = {name.rstrip("_"): value for name, value in _options.items()}
        typed |= dict(zip([str(positional)], _words, strict=False))
        return _read(cls, positional, typed)

    command.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    command.__doc__ = verb.help
    return command


def _read(cls: type, positional: str | None, typed: dict[str, Any]) -> tuple[Any, frozenset[str]]:
    """Lay the typed options on a recipe, and make the config."""
    known = leaves(cls)
    file = _with_hyphen(typed.pop("config", None))
    if file is None and positional and str(typed.get(positional)).endswith(".toml"):
        file = Path(typed.pop(positional))  # groundup pretrain recipe.toml
    recipe = {} if file is None else with_current_names(cls, read_recipe(file), where=file)
    mapping = recipe
    for name, value in typed.items():
        kind = known[name].kind
        if kind.type is str and Mark.FILE_NAME not in kind.marks and isinstance(value, str):
            value = without_surrogates(value)  # a text, and not the name of a file
        mapping = merge(mapping, nested(known[name].path, _with_hyphen(value)))
    given = frozenset(name for name, leaf in known.items() if _has(mapping, leaf.path))
    try:
        return from_mapping(cls, mapping), given
    except UserError:
        if file is not None:
            from_mapping(cls, recipe, where=file)  # names the file where the recipe is wrong
        raise


def _with_hyphen(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_with_hyphen(item) for item in value)
    return type(value)("-") if str(value) == HYPHEN else value


def _has(mapping: dict[str, Any], path: tuple[str, ...]) -> bool:
    inner: Any = mapping
    for key in path:
        if not isinstance(inner, dict) or key not in inner:
            return False
        inner = inner[key]
    return True


def _parameter(leaf: Leaf, text: str, group: Group, is_positional: bool) -> inspect.Parameter:
    kind, default = leaf.kind, leaf.default
    more: dict[str, Any] = {}
    if default in ("", ()) or (default is None and is_positional):
        more["show_default"] = False
    elif default is None:
        more["show_default"] = lambda value: "none"
    elif isinstance(default, Path):
        more["show_default"] = str
    elif isinstance(default, tuple):
        more["show_default"] = lambda value: " ".join(map(str, value))
    if kind.choices:
        more |= {"metavar": "|".join(map(str, kind.choices)), "show_choices": False}
    elif kind.type in _METAVARS and not is_positional:
        more["metavar"] = _METAVARS[kind.type]
    if typing.get_origin(kind.type) is tuple:
        more["consume_multiple"] = True
    elif kind.optional or kind.type is int:
        more["converter"] = _converter(leaf)
    option = f"--{leaf.name.replace('_', '-')}"
    parameter = Parameter(
        name=option,
        help=text,
        group=group,
        alias=[short for short, name in SHORT_OPTIONS.items() if name == option],
        negative_iterable=(),
        **more,
    )
    hint = kind.type | None if kind.optional else kind.type
    return inspect.Parameter(
        f"{leaf.name}_" if keyword.iskeyword(leaf.name) else leaf.name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD
        if is_positional
        else inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[hint, parameter],
    )


def _converter(leaf: Leaf) -> Callable[[Any, Any], Any]:
    """Convert as cyclopts does, but accept "none", and no 1.5 for a whole number."""

    def read(_: Any, tokens: tuple[Token, ...]) -> Any:
        word = tokens[0].value
        if leaf.kind.is_none(word):
            return None
        if Mark.ZERO_IS_NONE in leaf.marks and word == "0":
            return None
        if leaf.kind.type is int and not word.lstrip("+-").replace("_", "").isdecimal():
            raise ValueError(leaf.kind.expected)
        return convert(leaf.kind.type, tokens)

    return read
