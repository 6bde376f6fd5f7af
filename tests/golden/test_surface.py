"""What users hold on to, word for word: the help of every verb, and the public names.

To store both anew after a wanted change: `python tests/golden/test_surface.py`.
"""

import contextlib
import dataclasses
import inspect
import io
import os
from pathlib import Path
from unittest import mock

import groundup
from groundup.cli.main import main
from groundup.cli.verbs import VERBS

HERE = Path(__file__).parent


def help_texts() -> str:
    """`groundup --help` and that of every verb, 80 columns wide, without colour."""
    plain = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
    texts = []
    for arguments in ([], *([verb.name] for verb in VERBS)):
        with (
            mock.patch.dict(os.environ, plain),
            contextlib.redirect_stdout(io.StringIO()) as screen,
            contextlib.suppress(SystemExit),
        ):
            main([*arguments, "--help"])
        texts.append(f"$ {' '.join(['groundup', *arguments, '--help'])}\n{screen.getvalue()}")
    return "\n".join(line.rstrip() for line in "\n".join(texts).splitlines()) + "\n"


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


def test_the_help_is_as_stored() -> None:
    assert help_texts() == (HERE / "help.txt").read_text(encoding="utf-8")


def test_the_public_names_are_as_stored() -> None:
    assert public_names() == (HERE / "api.txt").read_text(encoding="utf-8")


if __name__ == "__main__":
    (HERE / "help.txt").write_text(help_texts(), encoding="utf-8")
    (HERE / "api.txt").write_text(public_names(), encoding="utf-8")
