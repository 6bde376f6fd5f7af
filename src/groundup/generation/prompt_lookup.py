"""Prompt lookup: guess the next tokens by copying what followed the same tokens before."""

from collections.abc import Sequence

_NGRAM = 3
"""The last tokens must have occurred before, this many in a row."""
_SHORTEST, _LONGEST = 2, 16
_FIRST_PAUSE, _LONGEST_PAUSE = 4, 128


class PromptLookup:
    """Draft tokens for one text.

    A draft that is rejected costs time, so drafts become longer where they are accepted, and rarer
    where they are not. Both depend on the tokens only, never on the clock.

    Source: "Prompt Lookup Decoding" (github.com/apoorvumang/prompt-lookup-decoding); the draft is
        verified as in "Fast Inference from Transformers via Speculative Decoding", section 2.

    >>> PromptLookup().draft([1, 2, 3, 4, 5, 1, 2, 3], 8), PromptLookup().draft([7, 7, 7, 7], 8)
    ([4, 5], [7, 7])
    """

    def __init__(self) -> None:
        self._ends: dict[tuple[int, ...], int] = {}  # where each n-gram ended last
        self._n_indexed = 0
        self._length = _SHORTEST
        self._pause = _FIRST_PAUSE
        self._next_at = 0

    def draft(self, tokens: Sequence[int], n_most: int) -> list[int]:
        """Guess the tokens after `tokens`; empty where there is no guess.

        Args:
            tokens: The text so far. Later calls must have the same beginning.
            n_most: Maximum number of tokens.
        """
        # The n-gram at the very end is not indexed: it would match itself.
        for end in range(max(_NGRAM, self._n_indexed), len(tokens)):
            self._ends[tuple(tokens[end - _NGRAM : end])] = end
        self._n_indexed = len(tokens)
        if len(tokens) < max(_NGRAM, self._next_at):
            return []
        place = self._ends.get(tuple(tokens[-_NGRAM:]))
        if place is None:
            return []
        # Where the text repeats itself, the copy runs into itself, and repeats it further.
        draft: list[int] = []
        for i in range(place, place + min(n_most, self._length)):
            draft.append(tokens[i] if i < len(tokens) else draft[i - len(tokens)])
        return draft

    def record(self, n_tokens: int, n_drafted: int, n_accepted: int) -> None:
        """Choose when the next draft is made, and its length.

        Args:
            n_tokens: Length of the text now.
            n_drafted: Number of tokens of the last draft, at least 1.
            n_accepted: Number of them that were generated.
        """
        if 2 * n_accepted >= n_drafted:
            grown = 2 * self._length if n_accepted == n_drafted else n_accepted
            self._length = min(max(_SHORTEST, grown), _LONGEST)
            self._pause = _FIRST_PAUSE
        else:
            self._length = _SHORTEST
            self._next_at = n_tokens + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
