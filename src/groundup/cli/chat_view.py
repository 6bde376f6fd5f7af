"""A chat at a terminal: who answers, what can be typed, and answers whose lines break at words."""

from pathlib import Path

from groundup.base.errors import quoted
from groundup.base.newest_run import newest_chat
from groundup.chat.assistant import about_assistant, find_assistant
from groundup.chat.cast import name_of
from groundup.chat.cast_session import CastSession
from groundup.chat.commands import available
from groundup.chat.conversation import Conversation
from groundup.chat.terminal import converse
from groundup.cli.chat_prompt import ChatPrompt
from groundup.cli.console import console, heading, next_command, note, write
from groundup.cli.word_wrap import WordWrap


def at_terminal(run: Path, conversation: Conversation, history: Path | None) -> int:
    """Hold a conversation; return the number of questions answered.

    Raises:
        UserError: The history cannot be kept.
    """
    session = conversation.session
    read = ChatPrompt(list(available(conversation)), history)
    if isinstance(session, CastSession):
        _present_cast(run, session)
    else:
        _present_assistant(find_assistant(run), is_imported=session.is_imported)
    note(
        "/help lists the commands. Esc Enter begins a new line, Ctrl-C stops an answer, and Ctrl-D "
        "ends the chat."
    )
    if history is not None:
        note(f"Messages are kept in {history}")
    outcome = converse(conversation, read, _Wrapped().write, note, interactive=True)
    n_answered = outcome.n_answered
    questions = "1 question" if n_answered == 1 else f"{n_answered} questions"
    unsaved = "" if conversation.is_saved else " The conversation is not saved."
    note(f"{questions} answered.{unsaved}")
    next_command(f"groundup explain {quoted(run)}")
    return n_answered


def _present_assistant(folder: Path, *, is_imported: bool) -> None:
    heading(f"chat with {folder}")
    what = "" if is_imported else " It answers what it was fine-tuned on."
    note(f"This is a very small model.{what}")
    if prompts := about_assistant(folder).prompts:
        note("Prompts to try:")
        for prompt in prompts:
            note(f"  {prompt}")


def _present_cast(run: Path, session: CastSession) -> None:
    heading(f"chat with the cast of {run}")
    names = session.cast.names
    note(
        "The model continues a scene of the plays that it was trained on. It invents every line, "
        f"and it has no other knowledge. You speak as {name_of(session.you)}, and "
        f"{name_of(session.character)} answers."
    )
    note(
        f"/with NAME lets another of the {len(names)} characters answer: {', '.join(names[:9])}, "
        "..."
    )
    if (assistant := newest_chat(run)) is not None:
        note(f"The fine-tuned assistant is in {assistant}/")


class _Wrapped:
    """Writes answers to a terminal; a line that ends begins the count of columns again."""

    def __init__(self) -> None:
        self._wrap = WordWrap(console.width)

    def write(self, text: str) -> None:
        if text == "\n":
            write(f"{self._wrap.end()}\n")
            self._wrap = WordWrap(console.width)
        else:
            write(self._wrap.push(text))
