"""The chat loop: read a line, write the answer, until the end.

It reads and writes through two functions it is given, so that it runs the same at a keyboard, in a
pipe and in a test.
"""

from collections.abc import Callable

from groundup.base.errors import UserError
from groundup.chat.cast import name_of
from groundup.chat.cast_session import CastSession
from groundup.chat.session import ChatSession

HELP = "/reset clears the conversation, /quit ends it (as do Ctrl-C and Ctrl-D)"


def converse(
    session: ChatSession | CastSession,
    read: Callable[[], str | None],
    write: Callable[[str], None],
    *,
    speaker: Callable[[], str] = str,
) -> int:
    """Answer line after line until `/quit`, the end of the input (None) or Ctrl-C.

    A question that cannot be answered (too long) gets an error message, and the conversation
    continues. Ctrl-C during an answer ends the conversation, too; the partial answer is kept.

    Args:
        session: The conversation.
        read: Returns the next line.
        write: Writes a piece of text.
        speaker: Returns the name to write before an answer. Empty: none is.

    Returns:
        The number of questions answered.
    """
    n_answered = 0
    try:
        while (line := read()) is not None:
            command = line.strip()
            if command == "/quit":
                break
            if command == "/reset":
                session.reset()
                write("The conversation was cleared.\n")
            elif command.startswith("/with ") and isinstance(session, CastSession):
                write(_choose(session, command.removeprefix("/with ")))
            elif command.startswith("/"):
                write(f"Unknown command {command.split()[0]}: {HELP}.\n")
            elif command:
                try:
                    pieces = session.ask(command)
                    first = next(pieces, "")  # an error comes before anything is written
                    name = speaker()
                    write(f"{name} > {first}" if name else first)
                    for piece in pieces:
                        write(piece)
                    n_answered += 1
                    write("\n")
                except UserError as error:
                    write(f"{error.located}\n")
    except (KeyboardInterrupt, EOFError):
        write("\n")
    return n_answered


def _choose(session: CastSession, name: str) -> str:
    """Let another character answer, and say who speaks now."""
    try:
        session.choose(name.strip())
    except UserError as error:
        return f"{error.located}\n"
    return f"You speak as {name_of(session.you)}, and {name_of(session.character)} answers.\n"
