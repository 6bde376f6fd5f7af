"""Read the messages of a chat from a terminal: editing, several lines, history and completion."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.shortcuts import CompleteStyle

from groundup.base.errors import UserError
from groundup.base.surrogates import without_surrogates


class _PrivateHistory(FileHistory):
    """A history file that only its owner can read. What cannot be written is not kept."""

    def store_string(self, string: str) -> None:
        with suppress(OSError, ValueError):
            super().store_string(without_surrogates(string))

    def load_history_strings(self) -> Iterable[str]:
        with suppress(OSError):
            yield from super().load_history_strings()


class ChatPrompt:
    """Reads one message after another. Enter sends it; Esc Enter begins a new line.

    Args:
        commands: Names of commands, which Tab completes.
        history: File that keeps the messages. None: none does.

    Raises:
        UserError: The file cannot be written or read.
    """

    def __init__(self, commands: Sequence[str], history: Path | None) -> None:
        if history is not None:
            _check(history)
        kept = InMemoryHistory() if history is None else _PrivateHistory(history)
        self._session: PromptSession[str] = PromptSession(
            history=kept,
            multiline=True,
            key_bindings=_keys(),
            completer=WordCompleter(list(commands), sentence=True),
            complete_style=CompleteStyle.READLINE_LIKE,
            complete_while_typing=False,
            reserve_space_for_menu=0,
            prompt_continuation="    > ",
        )

    def __call__(self) -> str | None:
        """Read a message. None: Ctrl-D was typed.

        Raises:
            KeyboardInterrupt: After Ctrl-C.
        """
        try:
            return without_surrogates(self._session.prompt([("bold", "you"), ("", " > ")]))
        except EOFError:
            return None


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def _check(history: Path) -> None:
    try:
        os.close(os.open(history, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600))
    except OSError as error:
        raise UserError(
            f"Messages cannot be kept in this file ({error.strerror}). A file that can be read and "
            "written is expected.",
            where=history,
        ) from error
