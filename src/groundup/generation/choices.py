"""A constraint to one of a few texts."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from groundup.base.arguments import own_checks
from groundup.base.errors import UserError


class Choices:
    """Texts of which one has to be generated, as ids of tokens.

    Args:
        choices: The texts.
        tokens: The bytes of each token.
        special_ids: Ids that are no text.

    Raises:
        UserError: There are fewer than two choices, one is empty or occurs twice, or the tokens
            cannot write one.

    >>> yes_or_no = Choices(["yes", "no"], [b"n", b"no", b"y", b"es", b"x"])
    >>> choice = yes_or_no()
    >>> choice.allowed(9).tolist(), choice.accept(2), choice.allowed(9).tolist()
    ([False, True, True, False, False], None, [False, False, False, True, False])
    """

    @own_checks
    def __init__(
        self,
        choices: Sequence[str],
        tokens: Sequence[bytes],
        *,
        special_ids: Collection[int] = (),
    ) -> None:
        if isinstance(choices, str) or len(choices) < 2:
            raise UserError(f"The choices are {choices!r}. Expected at least two texts.")
        if "" in choices or len(set(choices)) < len(choices):
            raise UserError("A choice is empty, or occurs twice. Expected different texts.")
        self.n_tokens = len(tokens)
        self.texts = [choice.encode("utf-8", errors="surrogatepass") for choice in choices]
        self._ids: dict[bytes, list[int]] = {}
        for index, token in enumerate(tokens):
            if token and index not in special_ids:
                self._ids.setdefault(token, []).append(index)
        # `_next[text][n]` are the ids that continue the text after n bytes towards its end.
        self._next = {text: self._continuations(text) for text in self.texts}
        for choice, text in zip(choices, self.texts, strict=True):
            if not self._next[text][0]:
                raise UserError(
                    f"The tokens of the model cannot write the choice {choice!r}. Expected texts "
                    "of characters that the tokenizer knows."
                )

    def __call__(self) -> "OneOf":
        """Make the constraint of one text."""
        return OneOf(self)

    def next_ids(self, text: bytes, n_written: int) -> list[int]:
        """Ids that continue the choice `text` after its first bytes."""
        return self._next[text][n_written]

    def width(self, token: int) -> int:
        """Number of bytes of a token."""
        return self._widths[token]

    def _continuations(self, text: bytes) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in range(len(text))]
        self._widths: dict[int, int] = getattr(self, "_widths", {})
        for start in reversed(range(len(text))):
            for stop in range(start + 1, len(text) + 1):
                # A token that leaves bytes which no token can write would be a dead end.
                if stop == len(text) or found[stop]:
                    ids = self._ids.get(text[start:stop], [])
                    found[start] += ids
                    self._widths.update(dict.fromkeys(ids, stop - start))
        return found


class OneOf:
    """The constraint of one text: it is one of the choices."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._possible = list(choices.texts)
        self._n_written = 0

    def allowed(self, n_left: int) -> Tensor:
        """Return which tokens may come next, (V,) bool."""
        mask = torch.zeros(self._choices.n_tokens, dtype=torch.bool)
        for text in self._possible:
            if len(text) > self._n_written:
                mask[self._choices.next_ids(text, self._n_written)] = True
        return mask

    @property
    def may_end(self) -> bool:
        """Whether the text so far is a choice."""
        return any(len(text) == self._n_written for text in self._possible)

    @property
    def must_end(self) -> bool:
        """Whether it is, and no longer choice begins with it."""
        return all(len(text) == self._n_written for text in self._possible)

    def accept(self, token: int) -> None:
        """Add a token to the text."""
        start, self._n_written = self._n_written, self._n_written + self._choices.width(token)
        self._possible = [
            text
            for text in self._possible
            if len(text) > start and token in self._choices.next_ids(text, start)
        ]
