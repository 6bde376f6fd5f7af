"""Text that remembers which of its characters a person wrote, wherever a template puts them.

Each such character is replaced by a code point that no text has. A chat template works on the
replaced text, so what it renders shows which characters came from a message: the name of a special
token can only be found in what the template wrote itself. The text answers every question of a
template, such as `'</think>' in content`, as the original does.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, SupportsIndex

from groundup.base.errors import UserError

_UNASSIGNED = range(0x40000, 0xE0000)
"""Planes of Unicode without characters."""


class Marks:
    """The code points that stand for the characters of messages, by group of messages.

    Args:
        avoid: Characters that texts contain; no code point of them is used.
        marks_space: Whether white space is replaced, too.
    """

    def __init__(self, avoid: Iterable[str], *, marks_space: bool = False) -> None:
        taken = {ord(character) for character in set(avoid)}
        self._free = (point for point in _UNASSIGNED if point not in taken)
        self._marks_space = marks_space
        self._hidden: dict[tuple[str, int], str] = {}
        self.shown: dict[int, str] = {}
        """The character of each code point."""
        self.groups: dict[str, int] = {}
        """The group of each code point."""

    def text(self, content: str, group: int) -> "Tracked":
        """Replace the characters of a message."""
        table = {ord(character): self.hide(character, group) for character in set(content)}
        return Tracked(content.translate(table), self)

    def hide(self, character: str, group: int) -> str:
        """Return what stands for one character."""
        if character.isspace() and not self._marks_space:
            return character
        key = (character, group)
        if key not in self._hidden:
            try:
                point = chr(next(self._free))
            except StopIteration as error:
                raise UserError(
                    "The messages have more different characters than a chat template can be "
                    "rendered with. Shorter messages are expected."
                ) from error
            self._hidden[key], self.shown[ord(point)] = point, character
            self.groups[point] = group
        return self._hidden[key]

    def show(self, text: str) -> str:
        """Return the text with its original characters."""
        return str.translate(text, self.shown)


class Tracked(str):
    """A text in which the characters of messages are replaced; methods see the original."""

    __slots__ = ("marks",)
    marks: Marks

    def __new__(cls, text: str, marks: Marks) -> "Tracked":
        """Wrap a text whose characters are already replaced."""
        made = super().__new__(cls, text)
        made.marks = marks
        return made

    @property
    def true(self) -> str:
        """The original text."""
        return self.marks.show(self)

    def _wrap(self, text: str) -> "Tracked":
        return Tracked(text, self.marks)

    def _part(self, start: int, stop: int) -> "Tracked":
        return self._wrap(str.__getitem__(self, slice(start, stop)))

    def __str__(self) -> str:
        """Return the text itself, still with replaced characters."""
        return self

    def __eq__(self, other: object) -> bool:
        """Compare the original texts."""
        return isinstance(other, str) and self.true == plain(other)

    def __ne__(self, other: object) -> bool:
        """Compare the original texts."""
        return not self == other

    def __hash__(self) -> int:
        """Hash the original text."""
        return hash(self.true)

    def __lt__(self, other: str) -> bool:
        """Compare the original texts."""
        return self.true < plain(other)

    def __le__(self, other: str) -> bool:
        """Compare the original texts."""
        return self.true <= plain(other)

    def __gt__(self, other: str) -> bool:
        """Compare the original texts."""
        return self.true > plain(other)

    def __ge__(self, other: str) -> bool:
        """Compare the original texts."""
        return self.true >= plain(other)

    def __contains__(self, key: str) -> bool:  # type: ignore[override]
        """Search the original text."""
        return plain(key) in self.true

    def __getitem__(self, index: SupportsIndex | slice) -> "Tracked":
        """Return a part."""
        return self._wrap(str.__getitem__(self, index))

    def __iter__(self) -> Iterator["Tracked"]:  # type: ignore[override]
        """Return the characters one by one."""
        return map(self._wrap, str.__iter__(self))

    def __add__(self, other: str) -> "Tracked":
        """Join with what follows."""
        return self._wrap(str.__add__(self, other))

    def __radd__(self, other: str) -> "Tracked":
        """Join with what comes before."""
        return self._wrap(str.__add__(other, self))

    def __int__(self) -> int:
        """Read a number from the original text."""
        return int(self.true)

    def __float__(self) -> float:
        """Read a number from the original text."""
        return float(self.true)

    def strip(self, chars: str | None = None) -> "Tracked":  # type: ignore[override]
        """Remove characters of the original text at both ends."""
        return self.lstrip(chars).rstrip(chars)

    def lstrip(self, chars: str | None = None) -> "Tracked":  # type: ignore[override]
        """Remove characters of the original text at the beginning."""
        kept = self.true.lstrip(None if chars is None else plain(chars))
        return self._part(len(self) - len(kept), len(self))

    def rstrip(self, chars: str | None = None) -> "Tracked":  # type: ignore[override]
        """Remove characters of the original text at the end."""
        kept = self.true.rstrip(None if chars is None else plain(chars))
        return self._part(0, len(kept))

    def removeprefix(self, prefix: str) -> "Tracked":  # type: ignore[override]
        """Remove the beginning, if the original text has it."""
        return self._part(len(prefix) if self.startswith(prefix) else 0, len(self))

    def removesuffix(self, suffix: str) -> "Tracked":  # type: ignore[override]
        """Remove the end, if the original text has it."""
        has = suffix and self.endswith(suffix)
        return self._part(0, len(self) - len(suffix) if has else len(self))

    def _parts(self, pieces: list[str]) -> list["Tracked"]:  # type: ignore[override]
        """Return the parts that consecutive pieces of the original text are."""
        parts, at, true = [], 0, self.true
        for piece in pieces:
            at = true.index(piece, at)
            parts.append(self._part(at, at + len(piece)))
            at += len(piece)
        return parts

    def _cut(self, pieces: list[str], n_between: int) -> list["Tracked"]:
        """Return the parts between separators of a known length."""
        parts, at = [], 0
        for piece in pieces:
            parts.append(self._part(at, at + len(piece)))
            at += len(piece) + n_between
        return parts

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list["Tracked"]:  # type: ignore[override]
        """Split where the original text has the separator."""
        if sep is None:
            return self._parts(self.true.split(None, maxsplit))
        return self._cut(self.true.split(plain(sep), maxsplit), len(sep))

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list["Tracked"]:  # type: ignore[override]
        """Split from the end where the original text has the separator."""
        if sep is None:
            return self._parts(self.true.rsplit(None, maxsplit))
        return self._cut(self.true.rsplit(plain(sep), maxsplit), len(sep))

    def splitlines(self, keepends: bool = False) -> list["Tracked"]:  # type: ignore[override]
        """Split into the lines of the original text."""
        return self._parts(self.true.splitlines(keepends))

    def partition(self, sep: str) -> tuple["Tracked", "Tracked", "Tracked"]:  # type: ignore[override]
        """Split at the first separator of the original text."""
        first, second, third = self._cut(list(self.true.partition(plain(sep))), 0)
        return first, second, third

    def rpartition(self, sep: str) -> tuple["Tracked", "Tracked", "Tracked"]:  # type: ignore[override]
        """Split at the last separator of the original text."""
        first, second, third = self._cut(list(self.true.rpartition(plain(sep))), 0)
        return first, second, third

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> "Tracked":
        """Replace a part of the original text."""
        if not old:
            pieces = ["", *str.__iter__(self), ""]
            n = len(pieces) - 1 if int(count) < 0 else min(int(count), len(pieces) - 1)
            joined = "".join(piece + (new if i < n else "") for i, piece in enumerate(pieces))
            return self._wrap(joined)
        return self._wrap(str.join(new, self.split(old, count)))

    def _changed(self, changed: str) -> "Tracked":
        """Give each character of a changed original the origin of the one that it was made of."""
        groups, at, made = self.marks.groups, 0, []
        for character in str.__iter__(self):
            old = self.marks.show(character)
            forms = sorted({old, old.lower(), old.upper(), old.title()}, key=len, reverse=True)
            is_short = len(changed) == len(self)
            new = next(
                (form for form in forms if not is_short and changed.startswith(form, at)),
                changed[at : at + 1],
            )
            at += len(new)
            if character in groups:
                new = "".join(self.marks.hide(each, groups[character]) for each in new)
            made.append(new)
        return self._wrap("".join(made))

    def lower(self) -> "Tracked":  # type: ignore[override]
        """Change the original text to lower case."""
        return self._changed(self.true.lower())

    def upper(self) -> "Tracked":  # type: ignore[override]
        """Change the original text to upper case."""
        return self._changed(self.true.upper())

    def capitalize(self) -> "Tracked":  # type: ignore[override]
        """Change the first character of the original text to upper case, the others to lower."""
        return self._changed(self.true.capitalize())

    def title(self) -> "Tracked":  # type: ignore[override]
        """Change the first character of every word to upper case."""
        return self._changed(self.true.title())

    def startswith(self, prefix: str | tuple[str, ...], *places: Any) -> bool:
        """Whether the original text begins so."""
        return self.true.startswith(_plain_all(prefix), *places)

    def endswith(self, suffix: str | tuple[str, ...], *places: Any) -> bool:
        """Whether the original text ends so."""
        return self.true.endswith(_plain_all(suffix), *places)

    def find(self, sub: str, *places: Any) -> int:
        """Find a part of the original text."""
        return self.true.find(plain(sub), *places)

    def rfind(self, sub: str, *places: Any) -> int:
        """Find the last occurrence of a part of the original text."""
        return self.true.rfind(plain(sub), *places)

    def index(self, sub: str, *places: Any) -> int:
        """Find a part of the original text."""
        return self.true.index(plain(sub), *places)

    def rindex(self, sub: str, *places: Any) -> int:
        """Find the last occurrence of a part of the original text."""
        return self.true.rindex(plain(sub), *places)

    def count(self, sub: str, *places: Any) -> int:
        """Count a part of the original text."""
        return self.true.count(plain(sub), *places)


def plain(text: str) -> str:
    """Return the original text, of a tracked one or of another."""
    return text.true if isinstance(text, Tracked) else text


def _plain_all(texts: str | tuple[str, ...]) -> str | tuple[str, ...]:
    return tuple(map(plain, texts)) if isinstance(texts, tuple) else plain(texts)


def join_texts(texts: Iterable[object], separator: str = "") -> str:
    """Join texts; the result is tracked if one of them is."""
    parts = [str(text) for text in texts]
    joined = str.join(separator, parts)
    tracked = next((part for part in (separator, *parts) if isinstance(part, Tracked)), None)
    return joined if tracked is None else Tracked(joined, tracked.marks)


def _asks_original(name: str) -> Callable[[Tracked], bool]:
    def asked(self: Tracked) -> bool:
        return bool(getattr(self.true, name)())

    return asked


for _name in ("isalpha", "isdigit", "isalnum", "isspace", "isupper", "islower", "isnumeric",
              "isdecimal", "istitle", "isascii", "isidentifier", "isprintable"):  # fmt: skip
    setattr(Tracked, _name, _asks_original(_name))
