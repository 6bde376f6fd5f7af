"""The one error that a user meets: what was found, what is expected, and what to type."""

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_IS_WINDOWS = os.name == "nt"


class UserError(ValueError):
    """A mistake that the user can correct. The command line prints it without a traceback.

    Args:
        message: Whole sentences: what was found, and what is expected.
        where: The file, folder or record that the message is about.
        command: A complete command that helps; it works when pasted into a shell.
        settings: Settings that help, by name. Python callers read them as keyword arguments; the
            command line adds them as options to the command that was typed.

    >>> print(UserError("This file is empty. A text is expected.", where="a.txt", command="ls"))
    a.txt: This file is empty. A text is expected. Try: ls
    >>> print(UserError("The context does not fit.", settings={"context_length": 128}))
    The context does not fit. Try: context_length=128
    """

    def __init__(
        self,
        message: str,
        *,
        where: str | Path | None = None,
        command: str = "",
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.message, self.where, self.command = message, where, command
        self.settings = dict(settings or {})
        hint = command or ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        super().__init__(f"{self.located} Try: {hint}" if hint else self.located)

    @property
    def located(self) -> str:
        """The message, after the place that it is about."""
        return self.message if self.where is None else f"{self.where}: {self.message}"


class UsageError(UserError):
    """An argument that is wrong whatever the files contain. The command line exits with 2."""


@contextmanager
def as_usage_error() -> Iterator[None]:
    """Raise every UserError of the block as a UsageError with the same parts."""
    try:
        yield
    except UserError as error:
        raise UsageError(
            error.message, where=error.where, command=error.command, settings=error.settings
        ) from error


def as_options(settings: Mapping[str, object]) -> list[str]:
    """Write settings as command-line options.

    >>> as_options({"context_length": 128, "compile": False, "stride": None})
    ['--context-length', '128', '--no-compile', '--stride', 'none']
    >>> as_options({"lora_targets": ("query", "value")})
    ['--lora-targets', 'query', 'value']
    """
    words: list[str] = []
    for name, value in settings.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, tuple | list):
            words += [f"--{option}", *map(str, value)]
        elif str(value).startswith("-"):
            words.append(f"--{option}={value}")
        else:
            words += [f"--{option}", "none" if value is None else str(value)]
    return words


def as_word(path: str | Path) -> str:
    """Write a path as an argument; one that begins with a hyphen would be taken for an option.

    >>> as_word(Path("data")), as_word(Path("-data")), as_word("--steps")
    ('data', './-data', '--steps')
    """
    is_like_option = isinstance(path, Path) and str(path).startswith("-") and str(path) != "-"
    return f"./{path}" if is_like_option else str(path)


def quoted(word: str | Path) -> str:
    """Write a word of a command so that a shell reads it as one.

    >>> print("groundup evaluate", quoted(Path("runs/my run")))
    groundup evaluate 'runs/my run'
    """
    text = as_word(word)
    if not _IS_WINDOWS:
        return shlex.quote(text)
    # Its shells have double quotes only, and a backslash is a part of most paths there.
    is_plain = re.fullmatch(r"[\w./\\:=+-]+", text) is not None
    return text if is_plain else '"' + text.replace('"', '\\"') + '"'


def joined(words: Iterable[str | Path]) -> str:
    """Write the words of a command so that a shell reads them as they are.

    >>> joined(["groundup", "generate", Path("runs/my run"), "--seed", "1"])
    "groundup generate 'runs/my run' --seed 1"
    """
    return " ".join(map(quoted, words))
