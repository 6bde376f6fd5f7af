r"""Translate patterns between the `regex` package, which cuts our text, and Oniguruma.

Hugging Face's tokenizers cuts by Oniguruma, in which a few constructs have another meaning: `\w`
has other characters, `{1,3}+` repeats instead of being possessive, `^` and `$` are at every line.
A pattern goes through item by item; what could not be written with the same meaning is refused.

>>> to_oniguruma(r"\p{N}{1,3}+|\s+")
'(?>\\p{N}{1,3})|\\s+'
>>> from_oniguruma(r"\p{N}{1,3}+|\s+")
'(?:\\p{N}{1,3})+|\\s+'
"""

import re

PROPERTIES = (
    *("L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "Z", "Zs"),
    *("P", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm", "Sc", "Sk", "So", "Cc", "Cf"),
    *("Han", "Hiragana", "Katakana", "Hangul", "Latin", "Cyrillic", "Greek", "Arabic", "Thai"),
    *("Hebrew", "Devanagari", "Alphabetic"),
)
_ESCAPE = r"\\(?:[sSdDrnt]|u[0-9a-fA-F]{4}|x[0-7][0-9a-fA-F]|[ !-/:-@\[-`{-~])"
_PROPERTY = rf"\\[pP]\{{(?:{'|'.join(PROPERTIES)})\}}"
_IN_CLASS = rf"{_ESCAPE}|{_PROPERTY}|\\w|[^\[\]\\&|~-]|(?:[&|~-](?![&|~-]))"
_SIMPLE_LOOKAHEAD = re.compile(
    rf"\(\?[=!](?:{_ESCAPE}|{_PROPERTY}|\\[wW]|[^\\\[\](){{}}*+?|^$]|\[\^?(?:{_IN_CLASS})+\])\)"
)
_ITEM = re.compile(
    rf"""(?P<last_space>\\s\+\+\$)          # the same in both: no line ends after all white space
    | (?P<word>\\[wW])
    | (?P<same>{_ESCAPE}|{_PROPERTY}|[^\\\[\](){{}}*+?|.^$])
    | (?P<class>\[\^?(?:{_IN_CLASS})+\])
    | (?P<fold>\(\?i:(?:[A-Za-z'|]|\[[A-Za-z]+\])*\))
    | (?P<open>\((?:\?(?:[:=!>]|<[=!]))?(?!\?))
    | (?P<close>\))
    | (?P<anchor>[\^$]|\\[AZz])
    | (?P<any>[.|])
    | (?P<quantifier>[*+?]|\{{(?:\d+(?:,\d*)?|,\d+)\}})(?P<mode>[+?]?)""",
    re.VERBOSE,
)
_WORD = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}"
# In a class, Oniguruma has the property; alone, it also has what Latin-1 calls a digit or fraction.
_WORD_OF_REGEX, _WORD_OF_ONIGURUMA = _WORD + r"\u200c\u200d", _WORD + "²³¹¼½¾"
_FOLDED_OTHERWISE = re.compile("ss|st|ff|i", re.IGNORECASE)
"""If case does not count, Oniguruma finds the pairs as one character too, and `regex` Turkish i."""


class OtherMeaningError(ValueError):
    """A construct of a pattern that the other engine reads otherwise."""


def to_oniguruma(pattern: str) -> str:
    """Write a pattern of the `regex` package for Oniguruma.

    Raises:
        OtherMeaningError: It cannot be written with the same meaning.
    """
    anchors = {"^": r"\A", "$": r"\Z", r"\A": r"\A", r"\Z": r"\z"}
    return _translate(pattern, _WORD_OF_REGEX, anchors, to_regex=False)


def from_oniguruma(pattern: str) -> str:
    """Write a pattern of Oniguruma for the `regex` package.

    Raises:
        OtherMeaningError: It cannot be written with the same meaning.
    """
    anchors = {r"\A": r"\A", r"\Z": "$", r"\z": r"\Z"}
    return _translate(pattern, _WORD_OF_ONIGURUMA, anchors, to_regex=True)


def looks_one_ahead(pattern: str) -> bool:
    r"""Whether a match depends on what it passes over and one character more, and this is known.

    It is not so for anchors, for lookbehind, and for lookahead of more than one character.

    >>> looks_one_ahead(r"\s+(?!\S)|\S"), looks_one_ahead(r"^\w"), looks_one_ahead("a(?=.*b)")
    (True, False, False)
    """
    rest = _SIMPLE_LOOKAHEAD.sub("", pattern)
    at = 0
    while at < len(rest):
        found = _ITEM.match(rest, at)
        if (
            found is None
            or found.lastgroup in ("anchor", "last_space")
            or found.group() in ("(?=", "(?!", "(?<=", "(?<!")
        ):
            return False
        at = found.end()
    return True


def _translate(pattern: str, word: str, anchors: dict[str, str], *, to_regex: bool) -> str:
    parts: list[str] = []
    groups: list[int] = []
    first = 0  # of the parts that a quantifier would repeat
    at = 0
    while at < len(pattern):
        found = _ITEM.match(pattern, at)
        if found is None:
            raise OtherMeaningError(pattern[at : at + 10])
        at, item = found.end(), found.group()
        kind = found.lastgroup
        if kind != "mode":
            first = len(parts)
        match kind:
            case "word":
                parts.append(f"[{word}]" if item == r"\w" else f"[^{word}]")
            case "class":
                parts.append(_replace_word(item, _WORD if to_regex else word))
            case "fold" if _FOLDED_OTHERWISE.search(item, len("(?i:")):
                raise OtherMeaningError(item)
            case "anchor":
                if item not in anchors:
                    raise OtherMeaningError(item)
                parts.append(anchors[item])
            case "open":
                groups.append(first)
                parts.append(item)
            case "close":
                if not groups:
                    raise OtherMeaningError(item)
                first = groups.pop()
                parts.append(item)
            case "mode":
                _repeat(parts, first, found["quantifier"], found["mode"], to_regex)
            case _:
                parts.append(item)
    return "".join(parts)


def _replace_word(item: str, word: str) -> str:
    """Spell out the `\\w` of a class."""
    return re.sub(r"\\.", lambda found: word if found[0] == r"\w" else found[0], item)


def _repeat(parts: list[str], first: int, quantifier: str, mode: str, to_regex: bool) -> None:
    if not quantifier.startswith("{") or not mode or (mode == "?" and "," in quantifier):
        parts.append(quantifier + mode)
    elif mode == "+":
        parts.insert(first, "(?:" if to_regex else "(?>")
        parts.append(f"{quantifier})+" if to_regex else f"{quantifier})")
    elif to_regex:  # Oniguruma reads `{3}?` as: three times, or not at all
        parts.insert(first, "(?:")
        parts.append(f"{quantifier})?")
    else:
        parts.append(quantifier)
