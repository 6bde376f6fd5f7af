"""Turn token ids into text as they come: whole characters, and nothing of a stop string."""

import codecs
from collections.abc import Callable, Collection, Sequence

from groundup.base.arguments import own_checks
from groundup.generation.request import check_stop


class TextStream:
    """Text of tokens that arrive one at a time.

    The pieces add up to the text of all tokens, decoded at once with U+FFFD for each maximal part
    that is not valid UTF-8. Bytes of an incomplete character are held back, and so is text that
    may become a stop string.

    The text ends before the leftmost stop string: where one match may still begin further left
    than a complete one, more tokens are awaited. Of two that begin at the same place the shorter
    decides, as it is complete first; the text is the same.

    Args:
        token_bytes: The bytes of one token.
        hidden_ids: Ids that are no text, for example special tokens.
        stop: Strings that end the text.

    >>> tokens = [b"a\\xf0\\x9f", b"\\x98\\x80", b" st", b"op"]
    >>> stream = TextStream(lambda i: tokens[i], stop=["stop"])
    >>> [stream.push(i) for i in range(4)], stream.stopped
    (['a', '😀', ' ', ''], True)

    Raises:
        UserError: A stop string is empty.
    """

    @own_checks
    def __init__(
        self,
        token_bytes: Callable[[int], bytes],
        *,
        hidden_ids: Collection[int] = (),
        stop: Sequence[str] = (),
    ) -> None:
        check_stop(stop)
        self.stopped = False
        """Whether a stop string was found; the text ends before it."""
        self._token_bytes = token_bytes
        self._hidden_ids = frozenset(hidden_ids)
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    def push(self, token: int) -> str:
        """Add a token; return the text that is certain now."""
        if self.stopped or token in self._hidden_ids:
            return ""
        return self._add(self._decoder.decode(self._token_bytes(token)))

    def close(self) -> str:
        """End the text; return what was held back, up to a stop string."""
        if self.stopped:
            return ""
        piece = self._add(self._decoder.decode(b"", final=True))
        if self.stopped:
            return piece
        match = self._match()
        rest, self._held = self._held[:match], ""
        self.stopped = match is not None
        return piece + rest

    def _add(self, text: str) -> str:
        if not self._stop:
            return text
        self._held += text
        match, start = self._match(), self._unfinished()
        self.stopped = match is not None and match <= start
        n_certain = start if match is None else min(match, start)
        piece, self._held = self._held[:n_certain], self._held[n_certain:]
        return piece

    def _match(self) -> int | None:
        """Where the leftmost stop string begins in the text that is held back."""
        places = [self._held.find(string) for string in self._stop]
        return min((place for place in places if place >= 0), default=None)

    def _unfinished(self) -> int:
        """Where the text that is held back ends in the beginning of a stop string, or its end."""
        n, longest = len(self._held), max(map(len, self._stop))
        for start in range(max(0, n - longest + 1), n):
            rest = self._held[start:]
            if any(len(rest) < len(string) and string.startswith(rest) for string in self._stop):
                return start
        return n
