"""The commands of a chat: lines that begin with a slash."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from groundup.base.errors import UserError
from groundup.chat.answer_generator import SETTINGS
from groundup.chat.cast import name_of
from groundup.chat.cast_session import CastSession
from groundup.chat.conversation import Conversation
from groundup.chat.uncertainty import as_lines

QUIT, RETRY = "/quit", "/retry"
"""The commands that the loop itself carries out."""
_OTHER_NAMES = {
    "/exit": QUIT,
    "/bye": QUIT,
    "/q": QUIT,
    "/clear": "/reset",
    "/new": "/reset",
    "/regenerate": RETRY,
    "/regen": RETRY,
    "/temp": "/temperature",
    "/set": "/temperature",
    "/max-tokens": "/max-new-tokens",
    "/character": "/with",
    "/?": "/help",
}
"""What other programs call them."""


@dataclass(frozen=True)
class Command:
    """A command of a chat."""

    argument: str
    help: str
    run: Callable[[Conversation, str], str] | None = None
    """Called with the argument; returns what to print. None: the loop carries it out."""


def is_command(text: str) -> bool:
    """Whether a message is meant as a command: one line that begins with a slash."""
    return text.startswith("/") and "\n" not in text.strip()


def find(text: str, conversation: Conversation) -> tuple[str, str]:
    """Split a line into the name of a command and its argument.

    Raises:
        UserError: There is no such command.
    """
    name, _, argument = text.strip().partition(" ")
    known = available(conversation)
    if name in known:
        return name, argument.strip()
    near = [_OTHER_NAMES[name]] if name in _OTHER_NAMES else []
    near = near or [command for command in known if len(name) > 1 and command.startswith(name)]
    near = [each for each in near if each in known]
    near = near or difflib.get_close_matches(name, known, n=3, cutoff=0.65)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    raise UserError(
        f"There is no command {name[:40]}.{meant} /help lists the commands. A message may begin "
        "with a slash after a space."
    )


def available(conversation: Conversation) -> dict[str, Command]:
    """The commands that make sense in a conversation, by name."""
    is_cast = isinstance(conversation.session, CastSession)
    return {name: each for name, each in COMMANDS.items() if name != "/with" or is_cast}


def _help(conversation: Conversation, argument: str) -> str:
    current = conversation.generator.current
    lines = []
    for name, command in available(conversation).items():
        setting = name[1:].replace("-", "_")
        now = f" Now {_shown(current[setting])}." if setting in current else ""
        lines.append(f"{f'{name} {command.argument}':<23}{command.help}{now}")
    return "\n".join(lines)


def _reset(conversation: Conversation, argument: str) -> str:
    conversation.reset()
    return "The conversation was cleared."


def _undo(conversation: Conversation, argument: str) -> str:
    question = conversation.undo()
    if question is None:
        raise UserError("Nothing was answered yet.")
    return f"Removed with its answer: {_beginning(question)}"


def _why(conversation: Conversation, argument: str) -> str:
    found = conversation.uncertain()
    if not found:
        raise UserError("There is no answer of the model to explain. Ask a question first.")
    return (
        "The least certain tokens of the last answer: their probability and that of\n"
        f"their alternatives, before temperature and cuts.\n{as_lines(found)}"
    )


def _save(conversation: Conversation, argument: str) -> str:
    if not argument:
        raise UserError("/save needs the name of a file, for example /save chat.jsonl.")
    return f"Saved to {' and '.join(map(str, conversation.save(argument)))}."


def _with(conversation: Conversation, argument: str) -> str:
    session = conversation.session
    assert isinstance(session, CastSession)
    if not argument:
        raise UserError(f"/with needs a name. Some are {', '.join(session.cast.names[:8])}.")
    session.choose(argument)
    conversation.reset()
    return f"You speak as {name_of(session.you)}, and {name_of(session.character)} answers."


def _setting(name: str) -> Callable[[Conversation, str], str]:
    def run(conversation: Conversation, argument: str) -> str:
        if argument:
            conversation.change(name, argument)
        return f"{name.replace('_', '-')}: {_shown(conversation.generator.current[name])}"

    return run


def _shown(value: float | int | None) -> str:
    return "off" if value is None else str(value)


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 50 else f"{line[:49]}…"


_SETTING_HELP = {
    "temperature": "Sampling temperature; 0: the most likely token.",
    "top_k": "Sample from this many likely tokens.",
    "top_p": "Sample from this much of the probability.",
    "min_p": "Smallest share of the largest probability.",
    "seed": "Random seed.",
    "max_new_tokens": "Maximum length of an answer.",
}
COMMANDS = {
    "/help": Command("", "List the commands.", _help),
    "/reset": Command("", "Clear the conversation.", _reset),
    "/undo": Command("", "Remove the last message and its answer.", _undo),
    RETRY: Command("", "Answer the last message again."),
    "/why": Command("", "Show alternatives of the answer's least certain tokens.", _why),
    "/save": Command("FILE", "Save to FILE.jsonl for instruct, FILE.txt, or both.", _save),
    "/with": Command("NAME", "Let another character answer, in a new scene.", _with),
    **{
        f"/{name.replace('_', '-')}": Command("N", _SETTING_HELP[name], _setting(name))
        for name in SETTINGS
    },
    QUIT: Command("", "End the chat."),
}
