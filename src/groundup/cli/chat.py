"""`groundup chat RUN`: talk to the assistant, ask it one question, or pipe it a list of them."""

import sys

from groundup.chat.terminal import HELP, ChatConfig, converse, find_assistant, open_session
from groundup.cli.console import console, heading, next_command, note


def run(config: ChatConfig) -> int:
    """Hold the conversation; returns the number of questions answered."""
    session = open_session(config)
    write = _write
    if config.ask is not None:
        for piece in session.ask(config.ask):
            write(piece)
        write("\n")
        return 1
    if not sys.stdin.isatty():
        # Answers only, one per question, so that the output of a pipe is the list of answers.
        return converse(session, lambda: sys.stdin.readline() or None, write)
    heading(f"chat with {find_assistant(config.run)}")
    note(f"This is a very small model; it knows the lessons it was tuned on. {HELP}.")
    n_answered = converse(session, lambda: console.input("[bold]you[/bold] > "), write)
    note(f"{n_answered} questions answered; nothing of it is stored.")
    next_command(f"groundup chat {config.run} --ask 'Which word comes first: old new'")
    return n_answered


def _write(text: str) -> None:
    """Write at once and as it is: an answer may hold brackets that rich would read as markup."""
    sys.stdout.write(text)
    sys.stdout.flush()
