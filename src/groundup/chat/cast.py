"""The cast of plays: who speaks in them, and how their speeches are written.

A speech is a paragraph that begins with a line that names its speaker:

    ROMEO.
    Do you love me?

    JULIET.
    ...

A model that was trained on plays continues such a text with an invented speech of that character.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from groundup.base.errors import UserError

_SPEECH = re.compile(r"([^\W\d_][\w'. -]{1,30}[.:]) *\n(?=\s*\S)")
_MIN_SPEECHES = 10
"""A speaker with fewer speeches in the text is left out."""
_MIN_SPEAKERS = 3
_MIN_FRAC = 0.3
"""Fraction of the paragraphs of plays that are speeches."""
_READ_CHARACTERS = 8_000_000
"""How much of the text is searched."""


@dataclass(frozen=True, kw_only=True)
class Cast:
    """The speakers of plays."""

    cues: tuple[str, ...]
    """How the speakers are named in the text, with the sign after the name. Those who exchange the
    most speeches with another one are the first."""
    partners: dict[str, str]
    """For each cue the one whose speeches stand beside its own most often."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the speakers, in the order of the cues."""
        return tuple(map(name_of, self.cues))

    def cue(self, name: str | None) -> str:
        """Find a speaker by name. None: one of the pair that speak to each other most often.

        Raises:
            UserError: There is no such speaker.
        """
        if name is None:
            return self.cues[0]
        wanted = name_of(name).casefold()
        for cue in self.cues:
            if name_of(cue).casefold() == wanted:
                return cue
        raise UserError(
            f"There is no character {name!r}. Some of the {len(self.cues)} characters are "
            f"{', '.join(self.names[:8])}."
        )


def name_of(cue: str) -> str:
    """Write a cue without the sign at its end.

    >>> name_of("MRS. PAGE.")
    'MRS. PAGE'
    """
    return cue.strip().rstrip(".:")


def speech(cue: str, text: str) -> str:
    r"""Write a speech as the plays do.

    >>> speech("ROMEO.", "Ay me!")
    'ROMEO.\nAy me!\n\n'
    """
    return f"{cue}\n{text}\n\n"


def find_cast(texts: Iterable[str]) -> Cast | None:
    r"""Find the speakers of plays. None: the texts are no plays, or nobody answers anybody.

    The first eight million characters are read; a text may be a piece of a document.

    >>> scene = "ROMEO.\nAy me!\n\nJULIET.\nO Romeo!\n\nNURSE.\nMadam!\n\n"
    >>> find_cast([scene * 20]).names
    ('JULIET', 'NURSE', 'ROMEO')
    >>> find_cast(["A book.\n\nIt has chapters.\n\n" * 20]) is None
    True
    """
    speeches: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    n_paragraphs = n_characters = 0
    for text in texts:
        before = ""
        for paragraph in text.split("\n\n"):
            if not paragraph.strip():
                continue
            n_paragraphs += 1
            found = _SPEECH.match(paragraph.lstrip("\n"))
            cue = found[1] if found and found[1][0].isupper() else ""
            if cue:
                speeches[cue] += 1
                if before not in ("", cue):
                    pairs[before, cue] += 1
                    pairs[cue, before] += 1
                before = cue
        n_characters += len(text)
        if n_characters > _READ_CHARACTERS:
            break
    known = {cue for cue, n in speeches.items() if n >= _MIN_SPEECHES}
    n_speeches = sum(speeches[cue] for cue in known)
    if len(known) < _MIN_SPEAKERS or n_speeches < _MIN_FRAC * n_paragraphs:
        return None
    best: dict[str, tuple[int, str]] = {}
    for (other, cue), n in pairs.items():
        if cue in known and other in known:
            best[cue] = max(best.get(cue, (0, "")), (n, other))
    if not best:
        return None
    cues = sorted(best, key=lambda cue: (-best[cue][0], cue))
    return Cast(cues=tuple(cues), partners={cue: best[cue][1] for cue in cues})
