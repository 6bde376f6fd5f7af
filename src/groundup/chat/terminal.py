"""The terminal chat: open the assistant of a run, then ask and answer line by line.

`converse` is the loop itself. It reads lines and writes text through two functions it is given,
so that it runs the same at a keyboard, behind a pipe and in a test.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from groundup.base.device import choose_device
from groundup.base.errors import UserError
from groundup.chat.session import ChatSession
from groundup.evaluate.load import load
from groundup.generate import stream

HELP = "/reset forgets the conversation, /quit ends it (so do Ctrl-C and Ctrl-D)"


@dataclass(frozen=True, kw_only=True)
class ChatConfig:
    """Talk to the assistant of a run."""

    run: Path = Path("runs/story")
    """the run folder that `groundup instruct` has tuned, or an assistant folder itself"""
    ask: str | None = None
    """answer this one question and end"""
    max_new_tokens: int = 48
    """the longest answer, in tokens"""
    temperature: float = 0.0
    """0 takes the likeliest token each time; higher is livelier and more often wrong"""
    top_k: int | None = None
    """draw from the k likeliest tokens only"""
    top_p: float | None = None
    """draw from the likeliest tokens that together reach this probability"""
    seed: int = 0
    """the same seed and questions give the same answers"""
    device: str = "auto"
    """auto, cpu or cuda"""


def find_assistant(run: Path) -> Path:
    """The newest finished one of RUN/assistant, RUN/assistant-2, ..., or RUN itself.

    Raises:
        UserError: no such folder, or nothing in it was tuned on instructions.
    """
    if not run.is_dir():
        raise UserError("there is no such folder", where=run, need="a run folder")
    if (run / "assistant.json").is_file():
        return run
    finished = [path.parent for path in run.glob("assistant*/assistant.json")]
    if not finished:
        raise UserError(
            "nothing here was tuned on instructions, so it has never seen a question",
            where=run,
            need="a run with an assistant",
            type_this=f"groundup instruct {run}",
        )
    # assistant-10 comes after assistant-9: shorter names first, then by name.
    return max(finished, key=lambda path: (len(path.name), path.name))


def open_session(config: ChatConfig) -> ChatSession:
    """Load the assistant and give a fresh conversation with it."""
    language_model = load(find_assistant(config.run))
    model = language_model.model.to(choose_device(config.device)).eval()
    n_asked = 0

    def speak(ids: list[int], max_new_tokens: int) -> Iterator[int]:
        nonlocal n_asked
        n_asked += 1
        draw = partial(
            stream, temperature=config.temperature, top_k=config.top_k, top_p=config.top_p
        )
        # Another seed for every answer, else the same question would get the same answer for ever.
        return draw(model, ids, max_new_tokens, seed=config.seed + n_asked)

    return ChatSession(
        speak,
        language_model.tokenizer,
        context_length=model.config.context_length,
        max_new_tokens=min(config.max_new_tokens, model.config.context_length // 2),
    )


def converse(
    session: ChatSession, read: Callable[[], str | None], write: Callable[[str], None]
) -> int:
    """Answer line after line until `/quit`, the end of the input (None) or Ctrl-C.

    A question that cannot be answered (too long) is said so and the conversation goes on. Ctrl-C
    while an answer is being written ends the conversation too, with the answer as far as it came.

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
                write("The conversation is forgotten.\n")
            elif command.startswith("/"):
                write(f"There is no command {command.split()[0]}: {HELP}.\n")
            elif command:
                try:
                    for piece in session.ask(command):
                        write(piece)
                    n_answered += 1
                    write("\n")
                except UserError as error:
                    write(f"{error}\n")
    except (KeyboardInterrupt, EOFError):
        write("\n")
    return n_answered
