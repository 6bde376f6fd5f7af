"""A chat as the loop and its commands see it: a session, and the generator of its answers."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from groundup.base.errors import UserError
from groundup.chat.answer_generator import AnswerGenerator
from groundup.chat.cast_session import CastSession
from groundup.chat.session import ChatSession
from groundup.chat.transcript import save
from groundup.chat.uncertainty import UncertainToken, least_certain


@dataclass
class Conversation:
    """A session, the generator of its answers, and who answers."""

    session: ChatSession | CastSession
    generator: AnswerGenerator
    name: str = "assistant"
    """The name of the assistant; characters of plays have their own."""
    n_saved: int = 0
    """Number of exchanges when the conversation was saved last."""

    @property
    def speaker(self) -> str:
        """The name of who gave the last answer."""
        return self.session.speaker if isinstance(self.session, CastSession) else self.name

    @property
    def is_saved(self) -> bool:
        """Whether a file has all that was said."""
        return self.n_saved == len(self.session.exchanges) or not self.session.exchanges

    def ask(self, question: str) -> Generator[str, None, None]:
        """Stream the answer, as the session does."""
        self.generator.forget()
        return self.session.ask(question)

    def reset(self) -> None:
        """Clear the conversation."""
        self.session.reset()
        self.generator.forget()
        self.n_saved = 0

    def undo(self) -> str | None:
        """Remove the last exchange, and return its question. None: there is none."""
        self.generator.forget()
        self.n_saved = -1
        return self.session.undo()

    def retry(self) -> Generator[str, None, None]:
        """Stream another answer to the last question. The old one is kept if none begins.

        Raises:
            UserError: Nothing was answered yet, or as the session.
        """
        removed = self.session.exchanges[-1:]
        before = self.n_saved, self.generator.tokens, self.generator.was_cut
        question = self.undo()
        if question is None:
            raise UserError("Nothing was answered yet.")
        n_kept = len(self.session.exchanges)
        try:
            yield from self.session.ask(question)
        finally:
            if len(self.session.exchanges) == n_kept:
                self.session.restore(*removed)
                self.n_saved, self.generator.tokens, self.generator.was_cut = before

    def save(self, name: str) -> list[Path]:
        """Write the conversation to new files, as `transcript.save`."""
        files = save(name, self.session.exchanges, self.session.system)
        self.n_saved = len(self.session.exchanges)
        return files

    def change(self, name: str, text: str) -> None:
        """Set a setting of the generator.

        Raises:
            UserError: The value is not allowed.
        """
        self.generator.change(name, text)
        if isinstance(self.session, ChatSession):
            self.session.max_new_tokens = self.generator.max_new_tokens

    def uncertain(self) -> list[UncertainToken]:
        """Find the least certain tokens of the last answer; empty if it has none."""
        shown, text = [], b""
        answer = self.session.exchanges[-1].answer if self.session.exchanges else ""
        for token in self.generator.tokens:
            # An incomplete sentence of a character is cut.
            if len(text.decode("utf-8", "replace").strip()) >= len(answer):
                break
            shown.append(token)
            text += self.generator.token_bytes(token.id)
        return least_certain(shown, self.generator.token_bytes)
