"""Lone surrogates: Python's spelling of bytes that are not UTF-8, which no file or model can hold.

The names of files and the words of a command may have them, and so may JSON of other programs.
"""

import re

_LONE = re.compile("[\ud800-\udfff]")
_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def has_surrogates(text: str) -> bool:
    """Whether a text has half of a surrogate pair."""
    return not text.isascii() and _LONE.search(text) is not None


def without_surrogates(text: str) -> str:
    r"""Replace surrogates: bytes that make UTF-8 become what they spell, others U+FFFD.

    >>> without_surrogates("caf\udce9 gr\udcc3\udcbcn \ud83d")
    'caf� grün �'
    """
    if not has_surrogates(text):
        return text
    raw = _NO_BYTE.sub("\N{REPLACEMENT CHARACTER}", text).encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "replace")
