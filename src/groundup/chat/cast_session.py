"""A conversation with the characters of plays: a model that was trained on them continues a scene.

Nothing was fine-tuned for this, and the model has no other knowledge than how plays are written. So
a question about the model itself is not given to it: the program answers what is true.
"""

from collections.abc import Callable, Iterator, Mapping

from groundup.base.errors import UsageError, UserError
from groundup.chat.cast import Cast, name_of, speech

PROGRAM = "groundup"
"""Who answers questions about the model."""
_ENDS = (".", "!", "?", "--", "]")
_N_TRIES = 8

Continue = Callable[[str, int], str]
"""Called with a text and a number that changes the random seed; returns an invented speech."""


class CastSession:
    """A scene between you and a character.

    Args:
        continue_: Continues a text up to a blank line.
        cast: The speakers of the plays.
        fits: Whether a text leaves room for a speech in the context of the model.
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
        fits: Callable[[str], bool],
        character: str | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        self.cast = cast
        self._continue, self._fits = continue_, fits
        self._facts = {_key(question): answer for question, answer in (facts or {}).items()}
        self._scene: list[str] = []
        self._n_asked = 0
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
        self._scene = []

    def ask(self, question: str) -> Iterator[str]:
        """Yield the answer to what you say, and keep both in the scene.

        Raises:
            UserError: Nothing was said, or it is too long for the context.
        """
        said = question.strip()
        if not said:
            raise UsageError("The question is empty. Some text is expected.")
        if _key(said) in self._facts:
            self.speaker = PROGRAM
            yield self._facts[_key(said)]
            return
        self.speaker = name_of(self.character)
        yours = speech(self.you, said)
        while not self._fits(self._prompt(yours)):
            if not self._scene:
                raise UserError("This is too long for the context. Fewer words are expected.")
            del self._scene[0]
        answer = ""
        for _ in range(_N_TRIES):  # the model may begin with the blank line
            self._n_asked += 1
            answer = _complete(self._continue(self._prompt(yours), self._n_asked))
            if answer:
                break
        answer = answer or "[Says nothing.]"
        self._scene.append(yours + speech(self.character, answer))
        yield answer

    def _prompt(self, yours: str) -> str:
        return "".join(self._scene) + yours + f"{self.character}\n"


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
