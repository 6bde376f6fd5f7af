"""The chat loop: read a message or a command, write the answer, until the end.

It reads and writes through the functions that it is given, so that it runs the same at a keyboard,
in a pipe and in a test.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass

from groundup.base.errors import UserError
from groundup.base.terminated import Terminated
from groundup.chat.commands import QUIT, RETRY, available, find, is_command
from groundup.chat.conversation import Conversation


@dataclass(frozen=True)
class Outcome:
    """What became of the lines of a chat."""

    n_answered: int
    n_failed: int
    """Messages and commands that got an error message."""


def converse(
    conversation: Conversation,
    read: Callable[[], str | None],
    write: Callable[[str], None],
    say: Callable[[str], None],
    *,
    interactive: bool = False,
) -> Outcome:
    """Answer message after message until `/quit` or the end of the input.

    A message that cannot be answered (too long) gets an error message, and the conversation
    continues. If it is not interactive, an empty line takes the place of the answer.

    Args:
        conversation: The conversation.
        read: Returns the next message or command. None: the end.
        write: Writes a piece of an answer.
        say: Writes a line that is no answer.
        interactive: Whether Ctrl-C stops an answer and the conversation continues. Each answer
            then begins with the name of who gives it.

    Raises:
        KeyboardInterrupt: After Ctrl-C if the conversation is not interactive, or after SIGTERM.
    """
    conversation.session.report = say
    loop = _Loop(conversation, write, say, interactive=interactive)
    while True:
        try:
            text = read()
            if text is None or not loop.handle(text):
                return Outcome(loop.n_answered, loop.n_failed)
        except KeyboardInterrupt as stop:
            if not interactive or isinstance(stop, Terminated):
                raise
            say("Ctrl-D or /quit ends the chat.")


class _Loop:
    def __init__(
        self,
        conversation: Conversation,
        write: Callable[[str], None],
        say: Callable[[str], None],
        *,
        interactive: bool,
    ) -> None:
        self.conversation, self.write, self.say = conversation, write, say
        self.interactive = interactive
        self.n_answered = self.n_failed = 0

    def handle(self, text: str) -> bool:
        """Carry out a command or answer a message. False: the chat ends."""
        try:
            if is_command(text):
                name, argument = find(text, self.conversation)
                if name == QUIT:
                    return False
                if name == RETRY:
                    self._answer(self._retried())
                elif (run := available(self.conversation)[name].run) is not None:
                    self.say(run(self.conversation, argument))
            elif text.strip():
                self._answer(self.conversation.ask(text))
        except UserError as error:
            self.n_failed += 1
            self.say(f"{error.located}{_command_for(error)}")
        return True

    def _retried(self) -> Generator[str, None, None]:
        """Ask the last question again."""
        if self.conversation.generator.temperature == 0 and self.conversation.session.exchanges:
            raise UserError(
                "With temperature 0 the answer would be the same. Set /temperature 0.8 first."
            )
        return self.conversation.retry()

    def _answer(self, pieces: Generator[str, None, None]) -> None:
        started = False
        try:
            for piece in pieces:
                if not started and self.interactive:
                    self.write(f"{self.conversation.speaker} > ")
                started = True
                self.write(piece)
            self.write("\n")
            self.n_answered += 1
        except UserError:
            if started or not self.interactive:
                self.write("\n")
            raise
        except KeyboardInterrupt as stop:
            pieces.close()  # keeps what was written so far
            if not self.interactive or isinstance(stop, Terminated):
                raise
            self.write("\n")
            kept = " What was written of it is kept." if started else ""
            self.say(f"The answer was stopped.{kept}")
            return
        generator = self.conversation.generator
        if self.interactive and generator.was_cut:
            n = generator.max_new_tokens
            fits = 2 * n < generator.context_length
            more = f" /max-new-tokens {2 * n} allows longer answers." if fits else ""
            self.say(f"The answer was cut after {n:,} tokens.{more}")


def _command_for(error: UserError) -> str:
    """The command that sets what helps, if the error names it."""
    value = error.settings.get("max_new_tokens")
    return "" if value is None else f" Try: /max-new-tokens {value}"
