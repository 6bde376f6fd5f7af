"""Special tokens: their names, and how to find them in a text."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Literal

import regex

from groundup.base.errors import UserError

END_OF_TEXT = "<|endoftext|>"
"""Ends a document."""
USER = "<|user|>"
"""Begins a message of the user."""
ASSISTANT = "<|assistant|>"
"""Begins an answer of the assistant."""
END = "<|end|>"
"""Ends a message or an answer."""

SPECIAL_TOKENS = (END_OF_TEXT, USER, ASSISTANT, END)
"""Part of every trained vocabulary, so that fine-tuning never has to extend it."""


def allowed_names(
    special_tokens: Mapping[str, int], allowed: AbstractSet[str] | Literal["all"]
) -> list[str]:
    """Return the special tokens that are allowed, the longest first.

    Raises:
        UserError: A token is allowed that is not among the special tokens.
    """
    if isinstance(allowed, str) and allowed != "all":
        raise UserError(
            f"allowed_special is the string {allowed!r}. A set of names or 'all' is expected.",
            settings={"allowed_special": {allowed}},
        )
    names = set(special_tokens) if allowed == "all" else set(allowed)
    if "" in names:
        raise UserError("A special token has an empty name. At least one character is expected.")
    unknown = names - special_tokens.keys()
    if unknown:
        raise UserError(
            f"This tokenizer has no special token {', '.join(sorted(unknown))}. "
            f"Its special tokens are: {', '.join(special_tokens) or 'none'}.",
        )
    return sorted(names, key=len, reverse=True)


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
    names = allowed_names(special_tokens, allowed)
    if not names:
        yield text, None
        return
    cut = regex.compile("(" + "|".join(map(regex.escape, names)) + ")")
    for part in cut.split(text):
        if part:
            yield part, special_tokens[part] if part in names else None
