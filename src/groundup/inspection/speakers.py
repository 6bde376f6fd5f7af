"""Find the speakers of a play, so that a page can offer a conversation with them."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

_SPEECH = re.compile(r"(?:^|\n\s*\n)[ \t]*([A-Z][A-Z' -]{1,29})([.:])[ \t]*\n(?=[ \t]*\S)")
_FEWEST_SPEECHES = 20
_MOST_CHARACTERS = 2_000_000
_MOST_NAMES = 24


def find_cast(texts: Iterable[str]) -> dict[str, Any] | None:
    r"""Find the names that begin speeches, the most frequent first.

    A speech begins after a blank line with a name in capital letters on a line of its own, which
    ends with a full stop or a colon.

    Returns:
        The names and the mark that follows each of them. None: the texts are not a play.

    >>> speech = "ROMEO.\nO, wilt thou leave me so?\n\nJULIET.\nWhat?\n\nROMEO.\nThine.\n\n"
    >>> find_cast([speech * 10])
    {'names': ['ROMEO', 'JULIET'], 'mark': '.'}
    """
    names: Counter[str] = Counter()
    marks: Counter[str] = Counter()
    n_read = 0
    for text in texts:
        for name, mark in _SPEECH.findall(text):
            names[name] += 1
            marks[mark] += 1
        n_read += len(text)
        if n_read > _MOST_CHARACTERS:
            break
    if marks.total() < _FEWEST_SPEECHES or len(names) < 2:
        return None
    found = [name for name, _ in names.most_common(_MOST_NAMES)]
    return {"names": found, "mark": marks.most_common(1)[0][0]}
