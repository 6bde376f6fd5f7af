"""`groundup chat RUN`: talk to the assistant or the cast, ask one question, or pipe several."""

import sys

from groundup.base.errors import UserError
from groundup.base.folder_kinds import find_run
from groundup.base.surrogates import without_surrogates
from groundup.chat.assistant import find_assistant, open_conversation
from groundup.chat.cast_session import CastSession
from groundup.chat.config import ChatConfig
from groundup.chat.terminal import converse
from groundup.cli.console import harmless, write


def run(config: ChatConfig) -> int:
    """Hold the conversation; return the number of questions answered.

    Raises:
        UserError: A question cannot be answered. In a pipe, the others are answered first.
    """
    run = find_run(config.run, "assistant")
    conversation = open_conversation(config)
    if config.ask is None and sys.stdin.isatty() and sys.stdout.isatty():
        from groundup.cli.chat_view import at_terminal  # a pipe needs no line editor

        return at_terminal(run, conversation, config.history)
    if not isinstance(conversation.session, CastSession):
        folder = find_assistant(run)
        if folder != run:
            _print_error(f"Using {folder}")
    if config.ask is not None:
        for piece in conversation.session.ask(config.ask):
            write(piece)
        write("\n")
        return 1
    # Answers only, one per question, so that the output of a pipe is the list of answers.
    outcome = converse(conversation, _read_line, write, _print_error)
    if outcome.n_failed:
        lines = "1 line" if outcome.n_failed == 1 else f"{outcome.n_failed:,} lines"
        raise UserError(f"{lines} of the input had an error. See above.")
    return outcome.n_answered


def _read_line() -> str | None:
    return without_surrogates(sys.stdin.readline()) or None


def _print_error(text: str) -> None:
    print(harmless(text), file=sys.stderr)
