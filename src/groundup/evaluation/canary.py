"""Texts on which two tokenizers, and two forms of a model, are compared."""

import unicodedata

CANARIES = (
    "Once upon a time in a small village, there lived a girl who could not sleep.",
    "It's 12:30 in 2024, isn't it? a  2\n  1. foo\n\n\tx = [1,  2,   3]\r\n",
    "def add(a: int, b: int) -> int:\n    return a + b  # naïve café\n",
    "Straße, Việt Nam, Ünïcödé; e\u0301 and é",
    "日本語のテキスト 한국어 العربية हिन्दी ไทย Ελληνικά",
    "😀 👩\u200d👩\u200d👧 🇩🇪 $^~|__<>\u00a0\u3000!",
    " a space before, and two after  ",
    "The capital of France is Paris. The capital of Japan is Tokyo. The capital of Italy is",
)
"""Texts of several scripts, with the digits and white space that tokenizers cut differently."""
PROMPTS = (CANARIES[0], CANARIES[2], CANARIES[7])
"""Texts that a model continues."""


def plain_canaries() -> tuple[str, ...]:
    """The texts in composed characters, without white space at their ends."""
    return tuple(unicodedata.normalize("NFC", text).strip() for text in CANARIES)
