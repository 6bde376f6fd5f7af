"""The typed arguments, before they are parsed: values that look like options, options without one.

`--prompt -Once` means `--prompt=-Once`, `--page` alone may have a value of its own, and a choice of
on and off may be typed as `--compile` and `--no-compile`.
"""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from groundup.base.errors import UserError
from groundup.base.fields import Leaf
from groundup.base.kinds import IfBare
from groundup.cli.mistakes import is_known_elsewhere
from groundup.cli.options import SHORT_OPTIONS


def with_values(words: Sequence[str], options: dict[str, Leaf]) -> list[str]:
    """Join options with values that the parser would not recognize as such.

    Args:
        words: The arguments after `groundup`; the first is the command.
        options: The options of the command by the names of their settings.
    """
    leaves = {f"--{name.replace('_', '-')}": leaf for name, leaf in options.items()}
    known = {*leaves, *(f"--no-{name[2:]}" for name in leaves), "--help", "-h", "-o", "--config"}
    known |= {"--recipe", "--version", "-V"}
    switches = _switches(leaves)
    words = [switches.get(word, word) for word in words]
    result: list[str] = []
    index = 0
    while index < len(words):
        word, leaf = words[index], leaves.get(words[index])
        following = words[index + 1] if index + 1 < len(words) else None
        index += 1
        bare = leaf.kind.find(IfBare) if leaf is not None else None
        starts_option = following is not None and following[:1] == "-" and following != "-"
        choices = leaf.kind.choices if leaf is not None else ()
        is_missing = following is None or starts_option
        if choices and following not in choices:  # `pretrain --compile data`, but no wrong value
            is_missing = is_missing or os.path.exists(str(following))
        if bare is not None and is_missing:
            word = f"{word}={bare.value}"
        elif leaf is not None and leaf.kind.type in (str, Path) and starts_option:
            name = str(following).partition("=")[0]
            if name not in known and not is_known_elsewhere(name, list(leaves)):
                word = f"{word}={following}"
                index += 1
        result.append(word)
    return result


def with_recipe(words: Sequence[str], positional: str | None) -> list[str]:
    """Name the option of a recipe that is typed first, beside the option of the first argument.

    `pretrain recipe.toml --data data` means `pretrain --config recipe.toml --data data`.
    """
    option = f"--{positional}"
    is_given = any(word.partition("=")[0] == option for word in words)
    if is_given and words[1].endswith(".toml"):
        return [words[0], "--config", *words[1:]]
    return list(words)


def refuse_empty_paths(
    words: Sequence[str], options: dict[str, Leaf], positional: str | None
) -> None:
    """Refuse a path that is an empty string, which would be the current folder.

    Raises:
        UserError: There is one.
    """
    paths = {f"--{name.replace('_', '-')}" for name, leaf in options.items() if _is_path(leaf)}
    paths |= {short for short, option in SHORT_OPTIONS.items() if option in paths}
    given = list(pairwise(words))
    if positional and _is_path(options[positional]):
        given[:1] = [(f"--{positional}", word) for _, word in given[:1] if word[:1] != "-"]
    for option, value in given + [tuple(word.split("=", 1)) for word in words if "=" in word]:
        if option in paths and not value:
            raise UserError(
                f"{option} is an empty string, as from a variable of the shell that is not set. A "
                "path is expected; for the current folder, type a dot."
            )


def _is_path(leaf: Leaf) -> bool:
    return leaf.kind.type is Path


def _switches(leaves: dict[str, Leaf]) -> dict[str, str]:
    """What is typed for a choice of on and off as if it were true or false."""
    found: dict[str, str] = {}
    for option, leaf in leaves.items():
        if {"on", "off"} <= set(leaf.kind.choices):
            found |= {f"--no-{option[2:]}": f"{option}=off", f"{option}=false": f"{option}=off"}
            found |= {f"{option}=true": f"{option}=on"}
    return found
