"""Tokens as the page shows them: their text as it becomes certain, names, and alternatives."""

import codecs
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from groundup.generation.sampler import Token, token_logprobs
from groundup.serve.served_model import ServedModel

N_ALTERNATIVES = 10
"""Number of most likely tokens that are listed for each token of an answer."""
_TEXT, _CONTROL, _BYTES = 0, 1, 2

Named = tuple[int, str, int]
"""The id of a token, its name, and what it is: 0 text, 1 a control token, 2 a part of a character,
named by its bytes."""


class TokenNames:
    """Names the tokens of a model."""

    def __init__(self, served: ServedModel) -> None:
        self.bytes_of = served.token_bytes
        self.controls = {index: name for name, index in served.tokenizer.special_tokens.items()}
        self._strips_space = served.answers_begin_with_space

    def __call__(self, index: int) -> Named:
        """Name a token."""
        if index in self.controls:
            return index, self.controls[index], _CONTROL
        try:
            return index, self.bytes_of(index).decode(), _TEXT
        except UnicodeDecodeError:
            return index, self.bytes_of(index).hex(" ").upper(), _BYTES

    def all(self, ids: Iterable[int]) -> list[Named]:
        """Name several tokens."""
        return [self(index) for index in ids]

    def text_of(self, *, is_reply: bool) -> "AnswerText":
        """Begin a text; the first space of a reply is left out if the tokenizer adds it."""
        return AnswerText(self, strips_space=is_reply and self._strips_space)

    def top(self, logits: Tensor, token: int, n_top: int) -> list[tuple[Any, ...]]:
        """Name the most likely tokens, with their log-probabilities."""
        return self.alternatives(token_logprobs(logits, token, n_top).top)

    def alternatives(self, top: Sequence[tuple[int, float]]) -> list[tuple[Any, ...]]:
        """Name tokens that have log-probabilities: id, name, kind, log-probability."""
        return [(*self(index), round(logprob, 5)) for index, logprob in top]


class AnswerText:
    """The text of an answer, token by token, in complete characters."""

    def __init__(self, names: TokenNames, *, strips_space: bool) -> None:
        self._names, self._strips_space = names, strips_space
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.text = ""

    def push(self, index: int) -> str:
        """Add a token; return the characters that it completes."""
        if index in self._names.controls:
            return ""
        piece = self._decoder.decode(self._names.bytes_of(index))
        if piece and self._strips_space:
            piece, self._strips_space = piece.removeprefix(" "), False
        self.text += piece
        return piece

    def shown(self, token: Token) -> dict[str, Any]:
        """Describe a token of the answer: its text, its log-probability, and its alternatives."""
        index, name, kind = self._names(token.id)
        assert token.logprobs is not None
        return {
            "id": index,
            "name": name,
            "kind": kind,
            "text": self.push(index),
            "logprob": round(token.logprobs.drawn, 5),
            "alternatives": self._names.alternatives(token.logprobs.top),
        }
