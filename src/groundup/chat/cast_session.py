"""A conversation with the characters of plays: a model that was trained on them continues a scene.

Nothing was fine-tuned for this, and the model has no other knowledge than how plays are written. So
a question about the model itself is not given to it: the program answers what is true.
"""

import logging
from collections.abc import Callable, Generator, Mapping

from groundup.base.errors import UsageError, UserError
from groundup.chat.cast import Cast, name_of, speech
from groundup.chat.session import left_out
from groundup.chat.transcript import Exchange

_log = logging.getLogger(__name__)

PROGRAM = "groundup"
"""Who answers questions about the model."""
_ENDS = (".", "!", "?", "--", "]")
_N_TRIES = 8

Continue = Callable[[str], str]
"""Called with a text; returns an invented speech, another one each time."""


class CastSession:
    """A scene between you and a character.

    Args:
        continue_: Continues a text up to a blank line.
        cast: The speakers of the plays.
        count_tokens: Number of tokens of a text.
        room: Returns how many tokens fit beside a speech, and the context length.
        character: Name of the character who answers. None: one of the pair that speak to each
            other most often.
        facts: True answers to questions about the model.

    Raises:
        UserError: There is no such character.
    """

    def __init__(
        self,
        continue_: Continue,
        cast: Cast,
        *,
        count_tokens: Callable[[str], int],
        room: Callable[[], tuple[int, int]],
        character: str | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        self.cast = cast
        self.exchanges: list[Exchange] = []
        """What was said since the scene began, the answers of the program included."""
        self.report: Callable[[str], None] = _log.warning
        """Called with a sentence when exchanges are left out."""
        self.system = None
        self._continue, self._count_tokens, self._room = continue_, count_tokens, room
        self._facts = {_key(question): answer for question, answer in (facts or {}).items()}
        self._n_forgotten = 0
        self.character = self.you = ""
        self.speaker = ""
        """Who gave the last answer."""
        self.choose(character)

    def choose(self, name: str | None) -> None:
        """Let another character answer. You speak as the one who speaks to that one most often.

        Raises:
            UserError: There is no such character.
        """
        cue = self.cast.cue(name)
        self.character, self.you = cue, self.cast.partners[cue]
        self.speaker = name_of(cue)
        self.reset()

    def reset(self) -> None:
        """Begin a new scene."""
        self.exchanges.clear()
        self._n_forgotten = 0

    def undo(self) -> str | None:
        """Remove the last exchange, and return its question. None: there is none."""
        if not self.exchanges:
            return None
        self._n_forgotten = 0
        return self.exchanges.pop().question

    def restore(self, exchange: Exchange) -> None:
        """Add the exchange that `undo` has removed."""
        self.exchanges.append(exchange)
        self.speaker = exchange.answerer

    def ask(self, question: str) -> Generator[str, None, None]:
        """Yield the answer to what you say, and keep both in the scene.

        Raises:
            UserError: Nothing was said, or it is too long for the context.
        """
        said = question.strip()
        if not said:
            raise UsageError("The question is empty. Some text is expected.")
        you = name_of(self.you)
        if _key(said) in self._facts:
            self.speaker = PROGRAM
            self.exchanges.append(Exchange(you, said, PROGRAM, self._facts[_key(said)]))
            yield self._facts[_key(said)]
            return
        self.speaker = name_of(self.character)
        prompt = self._fit(said)
        answer = ""
        for _ in range(_N_TRIES):  # the model may begin with the blank line
            answer = _complete(self._continue(prompt))
            if answer:
                break
        answer = answer or "[Says nothing.]"
        self.exchanges.append(Exchange(you, said, self.speaker, answer))
        yield answer

    def _fit(self, said: str) -> str:
        """Write the scene, without its oldest exchanges where it does not fit."""
        scene = [
            speech(self.you, each.question) + speech(self.character, each.answer)
            for each in self.exchanges
            if each.answerer != PROGRAM
        ]
        last = speech(self.you, said) + f"{self.character}\n"
        room, context_length = self._room()
        n_whole, n_before = 0, self._n_forgotten
        while True:
            prompt = "".join(scene[self._n_forgotten :]) + last
            n_tokens = self._count_tokens(prompt)
            n_whole = n_whole or n_tokens
            if n_tokens <= room:
                break
            if self._n_forgotten >= len(scene):
                self._n_forgotten = n_before
                raise UserError(
                    f"This takes {n_tokens:,} tokens with the names of the speakers. At most "
                    f"{room:,} fit beside an answer of {context_length - room:,}. Fewer words are "
                    "expected.",
                )
            self._n_forgotten += 1
        if n_new := self._n_forgotten - n_before:
            self.report(left_out(n_whole, room, context_length, n_new, self._n_forgotten))
        return prompt


def _complete(text: str) -> str:
    r"""Return a speech without an incomplete sentence at its end; empty if it is none.

    >>> _complete("Ay, my lord.\nI have se")
    'Ay, my lord.'
    >>> _complete("\nJULIET.\n")
    ''
    """
    if text.startswith("\n"):
        return ""
    speech = text.strip()
    if not speech.endswith(_ENDS):
        end = max(speech.rfind(sign) + len(sign) if sign in speech else 0 for sign in _ENDS)
        speech = speech[:end] or speech
    return speech


def _key(question: str) -> str:
    return question.casefold().strip(" ?!.")
