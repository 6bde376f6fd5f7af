"""`groundup chat RUN`: talk to the assistant or the cast, ask one question, or pipe several."""

import sys
from pathlib import Path

from groundup.base.errors import quoted
from groundup.base.folder_kinds import find_run
from groundup.base.newest_run import newest_tuned
from groundup.base.surrogates import without_surrogates
from groundup.chat.assistant import about_assistant, find_assistant, open_chat
from groundup.chat.cast import name_of
from groundup.chat.cast_session import CastSession
from groundup.chat.config import ChatConfig
from groundup.chat.terminal import HELP, converse
from groundup.cli.console import console, harmless, heading, next_command, note


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
        return converse(session, _read_line, _write)
    run = find_run(config.run, "assistant")
    if isinstance(session, CastSession):
        return _with_cast(run, session)
    folder = find_assistant(run)
    about = about_assistant(folder)
    heading(f"chat with {folder}")
    what = "" if session.is_imported else " It answers what it was fine-tuned on."
    note(f"This is a very small model.{what} {HELP}.")
    if about.prompts:
        note("Prompts to try:")
        for prompt in about.prompts:
            note(f"  {prompt}")
    n_answered = converse(session, _ask_line, _write, speaker=lambda: about.name)
    questions = "1 question" if n_answered == 1 else f"{n_answered} questions"
    note(f"{questions} answered. The conversation is not saved.")
    next_command(f"groundup explain {quoted(run)}")
    return n_answered


def _with_cast(run: Path, session: CastSession) -> int:
    """Hold a conversation with the cast of plays."""
    heading(f"chat with the cast of {run}")
    names = session.cast.names
    note(
        "The model continues a scene of the plays that it was trained on. It invents every line, "
        f"and it has no other knowledge. You speak as {name_of(session.you)}, and "
        f"{name_of(session.character)} answers."
    )
    note(
        f"/with NAME lets another of the {len(names)} characters answer: {', '.join(names[:9])}, "
        f"... {HELP}."
    )
    if (assistant := newest_tuned(run, "assistant")) is not None:
        note(f"The fine-tuned assistant is in {assistant}/")
    n_answered = converse(session, _ask_line, _write, speaker=lambda: session.speaker)
    note("The conversation is not saved.")
    next_command(f"groundup explain {quoted(run)}")
    return n_answered


def _read_line() -> str | None:
    return without_surrogates(sys.stdin.readline()) or None


def _ask_line() -> str:
    return without_surrogates(console.input("[bold]you[/bold] > "))


def _write(text: str) -> None:
    """Write immediately and not by rich, which would read brackets in an answer as markup."""
    sys.stdout.write(harmless(text))
    sys.stdout.flush()
