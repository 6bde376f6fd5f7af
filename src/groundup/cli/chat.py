"""`groundup chat RUN`: talk to the assistant, ask one question, or pipe a list of questions."""

import sys

from groundup.base.errors import quoted
from groundup.base.folder_kinds import find_run
from groundup.chat.assistant import find_assistant, open_chat
from groundup.chat.config import ChatConfig
from groundup.chat.terminal import HELP, converse
from groundup.cli.console import console, heading, next_command, note


def run(config: ChatConfig) -> int:
    """Hold the conversation; return the number of questions answered."""
    session = open_chat(config)
    if config.ask is not None:
        for piece in session.ask(config.ask):
            _write(piece)
        _write("\n")
        return 1
    if not sys.stdin.isatty():
        # Answers only, one per question, so that the output of a pipe is the list of answers.
        return converse(session, lambda: sys.stdin.readline() or None, _write)
    run = find_run(config.run, "assistant")
    heading(f"chat with {find_assistant(run)}")
    note(f"This is a very small model; it answers what it was fine-tuned on. {HELP}.")
    n_answered = converse(session, lambda: console.input("[bold]you[/bold] > "), _write)
    questions = "1 question" if n_answered == 1 else f"{n_answered} questions"
    note(f"{questions} answered. The conversation is not saved.")
    next_command(f"groundup explain {quoted(run)}")
    return n_answered


def _write(text: str) -> None:
    """Write immediately and unchanged: rich would read brackets in an answer as markup."""
    sys.stdout.write(text)
    sys.stdout.flush()
