"""The terminal chat: open the assistant of a run, then ask and answer line by line.

`converse` is the loop itself. It reads lines and writes text through two functions it is given,
so that it runs the same at a keyboard, behind a pipe and in a test.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from groundup.base.device import choose_device
from groundup.base.errors import UserError, quoted
from groundup.chat.session import ChatSession
from groundup.evaluation.load import load
from groundup.generation.engine import stream

HELP = "/reset forgets the conversation, /quit ends it (so do Ctrl-C and Ctrl-D)"


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
            type_this=f"groundup instruct {quoted(run)}",
        )
    # assistant-10 comes after assistant-9: shorter names first, then by name.
    return max(finished, key=lambda path: (len(path.name), path.name))


def open_session(
    run: Path,
    *,
    max_new_tokens: int = 48,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    device: str = "auto",
) -> ChatSession:
    """Load the assistant of a run and give a fresh conversation with it.

    Args:
        run: The run folder, or the assistant's own folder.
        max_new_tokens: The longest answer, in tokens; never more than half the context.
        temperature: 0 takes the likeliest token each time.
        top_k: Draw from the k likeliest tokens only.
        top_p: Draw from the likeliest tokens that together reach this probability.
        seed: The same seed and questions give the same answers.
        device: auto, cpu or cuda.
    """
    language_model = load(find_assistant(run))
    model = language_model.model.to(choose_device(device)).eval()
    n_asked = 0

    def speak(ids: list[int], max_new_tokens: int) -> Iterator[int]:
        nonlocal n_asked
        n_asked += 1
        # Another seed for every answer, else the same question would get the same answer for ever.
        return stream(
            model,
            ids,
            max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed + n_asked,
        )

    return ChatSession(
        speak,
        language_model.tokenizer,
        context_length=model.config.context_length,
        max_new_tokens=min(max_new_tokens, model.config.context_length // 2),
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
