"""Check on a difficult text that a byte-level tokenizer loses nothing."""

from pathlib import Path
from typing import Protocol, runtime_checkable

from groundup.base.errors import UserError
from groundup.base.sequences import n_common
from groundup.tokenizer.pretokens import compile_pattern, splitter
from groundup.tokenizer.special import SPECIAL_TOKENS

_TIMEOUT_S = 10

CANARY = (
    "The cat's 12345 hats aren't HERE'S;  two  spaces,\ttabs\t\t\n\n\n lines \r\n\r\n\r and \n \n"
    " naïve Straße e\u0301 ДОМ дом Ελλάδα 日本語の文 한국어 العربية हिन्दी ไทย ½ ² ٣٤ "
    "\u00a0\u2009\u3000 😀👩\u200d👩\u200d👧🇩🇪 \u0000\u0001\u001b\u007f\u0085\u2028\u2029\ufeff "
    "\ufffd\ue000\U0010ffff\v\f\x1c x=3.14159; f(a,b)->c !!! ... --- ___ snake_case camelCase "
    "0000000 aaaaaaaaaaaaaaaaaaaaaaaaaaa " + "".join(SPECIAL_TOKENS) + "<s></s> [INST] \n\n   \t  "
)
"""Scripts, digits, runs of white space, emoji, control characters and names of special tokens."""


@runtime_checkable
class ByteLevel(Protocol):
    """What is checked."""

    pattern: str

    def encode(self, text: str) -> list[int]:
        """Encode text as ids."""
        ...

    def decode(self, ids: list[int]) -> str:
        """Decode ids to text."""
        ...


def check_round_trip(tokenizer: ByteLevel, where: str | Path | None = None) -> None:
    """Check that decoding what was encoded gives the text again.

    Raises:
        UserError: It gives another text, or the pattern takes too long.
    """
    check_pattern(tokenizer.pattern, where)
    if (back := tokenizer.decode(tokenizer.encode(CANARY))) != CANARY:
        at = n_common(CANARY, back)
        raise UserError(
            f"This tokenizer loses text: {CANARY[at : at + 20]!r} comes back as "
            f"{back[at : at + 20]!r}. A tokenizer whose ids give the text again is expected.",
            where=where,
        )


def check_pattern(pattern: str, where: str | Path | None = None) -> None:
    """Check that a pattern cuts the test text into pieces that join to it, in a short time.

    Raises:
        UserError: It does not.
    """
    try:
        for _ in compile_pattern(pattern).finditer(CANARY, timeout=_TIMEOUT_S):
            pass
    except TimeoutError as error:
        raise UserError(
            f"The pattern {pattern[:200]!r} takes more than {_TIMEOUT_S} s for a text of "
            f"{len(CANARY)} characters. A pattern that backtracks less is expected.",
            where=where,
            settings={"pattern": "gpt4"},
        ) from error
    if (joined := "".join(splitter(pattern)(CANARY))) != CANARY:
        at = n_common(CANARY, joined)
        raise UserError(
            f"The pattern {pattern[:200]!r} loses text, from {CANARY[at : at + 20]!r} on. "
            "A pattern that matches from the beginning to the end is expected.",
            where=where,
            settings={"pattern": "gpt4"},
        )
