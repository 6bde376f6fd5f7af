"""Find the speakers of a play, so that a page can offer a conversation with them."""

import re
from collections import Counter
from collections.abc import Iterable

_SPEECH = re.compile(r"(?:^|\n\s*\n)[ \t]*([A-Z][A-Z' -]{1,29}[.:])[ \t]*\n(?=[ \t]*\S)")
_FEWEST_SPEECHES = 20
_MOST_CHARACTERS = 2_000_000
_MOST_SPEAKERS = 24


def find_speakers(texts: Iterable[str]) -> list[str] | None:
    r"""Find the lines that name the speakers of a play, the most frequent first.

    A speech begins after a blank line with a name in capital letters on a line of its own, which
    ends with a full stop or a colon. None: the texts are not a play.

    >>> speech = "ROMEO.\nO, wilt thou leave me so?\n\nJULIET.\nWhat?\n\nROMEO.\nThine.\n\n"
    >>> find_speakers([speech * 10])
    ['ROMEO.', 'JULIET.']
    """
    speeches: Counter[str] = Counter()
    n_read = 0
    for text in texts:
        speeches.update(_SPEECH.findall(text))
        n_read += len(text)
        if n_read > _MOST_CHARACTERS:
            break
    if speeches.total() < _FEWEST_SPEECHES or len(speeches) < 2:
        return None
    return [line for line, _ in speeches.most_common(_MOST_SPEAKERS)]
