"""Special tokens: their names, and finding them in a text."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Literal

import regex

from groundup.base.errors import UserError

END_OF_TEXT = "<|endoftext|>"
"""Ends a document."""
USER = "<|user|>"
"""Opens what the person says."""
ASSISTANT = "<|assistant|>"
"""Opens the answer."""
END = "<|end|>"
"""Closes either."""

SPECIAL_TOKENS = (END_OF_TEXT, USER, ASSISTANT, END)
"""They are in every vocabulary from the start, so that fine-tuning never has to extend it."""


def cut_at_special(
    text: str,
    special_tokens: Mapping[str, int],
    allowed: AbstractSet[str] | Literal["all"],
) -> Iterator[tuple[str, int | None]]:
    """Cut a text into ordinary parts (with None) and special tokens (with their ids).

    Raises:
        UserError: A token is allowed that is not among the special tokens.

    >>> list(cut_at_special("a<|x|>b", {"<|x|>": 9}, "all"))
    [('a', None), ('<|x|>', 9), ('b', None)]
    >>> list(cut_at_special("a<|x|>b", {"<|x|>": 9}, frozenset()))
    [('a<|x|>b', None)]
    """
    names = set(special_tokens) if allowed == "all" else set(allowed)
    unknown = names - special_tokens.keys()
    if unknown:
        raise UserError(
            f"{', '.join(sorted(unknown))} is no special token here",
            need=" or ".join(special_tokens) or "none",
        )
    if not names:
        yield text, None
        return
    longest_first = sorted(names, key=len, reverse=True)
    cut = regex.compile("(" + "|".join(map(regex.escape, longest_first)) + ")")
    for part in cut.split(text):
        if part:
            yield part, special_tokens[part] if part in names else None
