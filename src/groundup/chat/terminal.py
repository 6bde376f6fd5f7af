"""The chat loop: read a message or a command, write the answer, until the end.

It reads and writes through the functions that it is given, so that it runs the same at a keyboard,
in a pipe and in a test.
"""

from collections.abc import Callable

from groundup.base.errors import UserError
from groundup.base.terminated import Terminated
from groundup.chat.commands import QUIT, RETRY, available, find, is_command
from groundup.chat.conversation import Conversation


def converse(
    conversation: Conversation,
    read: Callable[[], str | None],
    write: Callable[[str], None],
    say: Callable[[str], None],
    *,
    interactive: bool = False,
) -> int:
    """Answer message after message until `/quit` or the end of the input.

    A message that cannot be answered (too long) gets an error message, and the conversation
    continues.

    Args:
        conversation: The conversation.
        read: Returns the next message or command. None: the end.
        write: Writes a piece of an answer.
        say: Writes a line that is no answer.
        interactive: Whether Ctrl-C stops an answer and the conversation continues. Each answer
            then begins with the name of who gives it.

    Returns:
        The number of questions answered.

    Raises:
        KeyboardInterrupt: After Ctrl-C if the conversation is not interactive, or after SIGTERM.
    """
    conversation.session.report = say
    loop = _Loop(conversation, write, say, interactive=interactive)
    while True:
        try:
            text = read()
            if text is None or not loop.handle(text):
                return loop.n_answered
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
        self.n_answered = 0

    def handle(self, text: str) -> bool:
        """Carry out a command or answer a message. False: the chat ends."""
        try:
            if is_command(text):
                name, argument = find(text, self.conversation)
                if name == QUIT:
                    return False
                if name == RETRY:
                    self._answer(self._question())
                elif (run := available(self.conversation)[name].run) is not None:
                    self.say(run(self.conversation, argument))
            elif text.strip():
                self._answer(text)
        except UserError as error:
            self.say(f"{error.located}{_command_for(error)}")
        return True

    def _question(self) -> str:
        """Remove the last exchange to ask its question again."""
        if self.conversation.generator.temperature == 0 and self.conversation.session.exchanges:
            raise UserError(
                "With temperature 0 the answer would be the same. Set /temperature 0.8 first."
            )
        question = self.conversation.undo()
        if question is None:
            raise UserError("Nothing was answered yet.")
        return question

    def _answer(self, question: str) -> None:
        pieces = self.conversation.ask(question)
        started = False
        try:
            for piece in pieces:
                if not started and self.interactive:
                    self.write(f"{self.conversation.speaker} > ")
                started = True
                self.write(piece)
            self.write("\n")
            self.n_answered += 1
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
