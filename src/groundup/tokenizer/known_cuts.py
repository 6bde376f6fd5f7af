r"""Which imported tokenizers give the same ids when a text is cut into pieces (`text/pieces.py`).

The patterns of GPT-2, Qwen2 and Llama 3 begin a new pretoken where a piece begins, whatever comes
before and after, so that the pieces can be encoded one by one. Of all other tokenizers this is not
known.
"""

from collections.abc import Mapping
from typing import Any

import regex

from groundup.text.pieces import EAST_ASIAN_MARKS
from groundup.tokenizer.pretokens import PATTERNS
from groundup.tokenizer.token_text import steps_of

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LATER = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Of Qwen2 and Llama 3, as llama.cpp writes it; `%s` stands for the part that matches numbers."""
_LATER_IN_FILES = LATER.replace(LATER.split("|[^")[0], r"(?i:'s|'t|'re|'ve|'m|'ll|'d)")
"""The same as Hugging Face's files write it."""
_NUMBERS = (r"\p{N}", r"\p{N}{1,3}")
PUNCTUATION = r"[\p{P}\$\+<=>\^~\|]+"

_CUTTING = {
    GPT2,
    *PATTERNS.values(),
    *(pattern % numbers for pattern in (LATER, _LATER_IN_FILES) for numbers in _NUMBERS),
}
_NEVER_ACROSS = regex.compile(rf"\s*|[^\s{EAST_ASIAN_MARKS}]*")
"""Added tokens that cannot lie across the edge of a piece."""


def cuts_at_pieces(description: Mapping[str, Any]) -> bool:
    """Whether a text can be encoded piece by piece.

    Args:
        description: The content of a tokenizer.json. Its special tokens do not matter: their names
            are ordinary text.
    """
    normalizers = steps_of(description.get("normalizer"))
    if any(step["type"] != "NFC" for step in normalizers):
        return False
    for token in description.get("added_tokens") or []:
        if not token["special"] and (
            token["lstrip"] or token["rstrip"] or not _NEVER_ACROSS.fullmatch(token["content"])
        ):
            return False
    steps = steps_of(description.get("pre_tokenizer"))
    # Later steps work on each pretoken by itself, except this one, which knows the first of a text.
    if any(step["type"] == "Metaspace" for step in steps):
        return False
    for step in steps:
        if _pattern(step) in _CUTTING:
            return True
        if step["type"] != "Digits" and _pattern(step) != PUNCTUATION:
            return False  # these two cut between characters of different kinds only
    return False


def _pattern(step: Mapping[str, Any]) -> str | None:
    """Return the pattern whose matches a step makes pretokens of; None if it is of another kind."""
    if step["type"] == "ByteLevel" and step.get("use_regex", True):
        return None if step.get("add_prefix_space", True) else GPT2
    pattern = step.get("pattern") if step["type"] == "Split" else None
    if not isinstance(pattern, dict) or step["behavior"] != "Isolated":
        return None
    return pattern.get("Regex")
