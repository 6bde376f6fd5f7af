"""The types of the fields of config classes: ranges, marks, and the check of a value."""

import dataclasses
import math
import numbers
import os
import re
import types
import typing
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Gt, Le, Lt

from groundup.base.errors import UserError
from groundup.base.surrogates import has_surrogates

C = TypeVar("C")

_INT_LIMIT = 2**63
"""Files, arrays and generators hold no larger integers."""

Count = Annotated[int, Ge(1)]
Whole = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0), Lt(math.inf)]
NotNegative = Annotated[float, Ge(0), Lt(math.inf)]


@dataclass(frozen=True)
class Pattern:
    """What a text must match, and how that is said."""

    regex: str
    words: str


Device = Annotated[str, Pattern(r"auto|cpu|mps|cuda(:\d{1,3})?", "auto, cpu, cuda, cuda:N or mps")]
Fraction = Annotated[float, Ge(0), Le(1)]


class Mark(Enum):
    """A property of a field, or of every field of a nested config."""

    NO_OPTION = auto()
    """The command line has no option for it; a TOML file may set it."""
    ZERO_IS_NONE = auto()
    """Files of version 0.1 write 0 where None is meant."""
    NO_COST = auto()
    """It changes neither the time nor the memory of a run."""
    BY_BUDGET = auto()
    """A budget of time chooses it, unless it is given explicitly."""
    FILE_NAME = auto()
    """A text that may be the name of a file, and so any bytes."""
    FREE_TEXT = auto()
    """A text of any words: "none" and "off" are texts, and not None."""
    SHAPE = auto()
    """If it is given explicitly, a budget does not choose the shape of the model."""


FreeText = Annotated[str | None, Mark.FREE_TEXT]


@dataclass(frozen=True)
class Section:
    """The heading of a field in the help, if it differs from that of its config."""

    title: str


@dataclass(frozen=True)
class OptionName:
    """The flat name of a field, if its own name would be unclear outside its config."""

    name: str


@dataclass(frozen=True)
class IfBare:
    """The value of an option that is typed without one."""

    value: str


@dataclass(frozen=True)
class Kind:
    """A type hint in its parts."""

    type: Any
    """The type without its annotations, and without None."""
    optional: bool
    """Whether None is allowed."""
    metadata: tuple[Any, ...]
    """Bounds, marks and so on."""

    @classmethod
    def of(cls, hint: Any) -> "Kind":
        """Take a hint apart.

        >>> Kind.of(Count | None)
        Kind(type=<class 'int'>, optional=True, metadata=(Ge(ge=1),))
        """
        optional = False
        metadata: tuple[Any, ...] = ()
        while True:
            if typing.get_origin(hint) is Annotated:
                metadata, hint = (*metadata, *hint.__metadata__), hint.__origin__
            elif typing.get_origin(hint) in (types.UnionType, typing.Union):
                parts = set(typing.get_args(hint))
                optional = optional or types.NoneType in parts
                parts -= {types.NoneType}
                if parts == {str, Path}:
                    hint, metadata = str, (*metadata, Mark.FILE_NAME)
                else:
                    hint = parts.pop()
            else:
                return cls(hint, optional, metadata)

    @property
    def is_config(self) -> bool:
        """Whether it is a nested config."""
        return isinstance(self.type, type) and dataclasses.is_dataclass(self.type)

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values of a Literal; empty for other types."""
        is_literal = typing.get_origin(self.type) is typing.Literal
        return typing.get_args(self.type) if is_literal else ()

    @property
    def bounds(self) -> list[tuple[str, float]]:
        """The range in words: ("at least", 1)."""
        signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
        return [
            (words, float(getattr(bound, sign)))
            for bound in self.metadata
            for sign, words in signs.items()
            if hasattr(bound, sign)
        ]

    @property
    def marks(self) -> frozenset[Mark]:
        """The marks of the field."""
        return frozenset(mark for mark in self.metadata if isinstance(mark, Mark))

    def find(self, cls: type[C]) -> C | None:
        """Return the annotation that is an instance of `cls`; None if there is none."""
        return next((mark for mark in self.metadata if isinstance(mark, cls)), None)

    def is_none(self, word: str) -> bool:
        """Whether a word stands for None: "none" or "off", unless any text is expected."""
        has_none = self.optional and Mark.FREE_TEXT not in self.marks
        return has_none and word.lower() in ("none", "off")

    def accepts(self, value: Any) -> bool:
        """Whether the value has the type and lies in the range. NaN is never accepted."""
        if value is None:
            return self.optional
        if self.choices:
            return any(value == choice and type(value) is type(choice) for choice in self.choices)
        if typing.get_origin(self.type) is tuple:
            inner = Kind.of(typing.get_args(self.type)[0])
            return isinstance(value, tuple) and all(inner.accepts(item) for item in value)
        if self.type not in (int, float):
            is_of_type = not isinstance(self.type, type) or isinstance(value, self.type)
            pattern = self.find(Pattern)
            return is_of_type and (
                pattern is None or re.fullmatch(pattern.regex, value) is not None
            )
        if isinstance(value, bool) or not isinstance(value, (int, self.type)) or value != value:
            return False
        if self.type is int and abs(value) >= 2**63:  # files, arrays and generators end there
            return False
        holds = {
            "at least": lambda bound: value >= bound,
            "above": lambda bound: value > bound,
            "at most": lambda bound: value <= bound,
            "below": lambda bound: value < bound,
        }
        return all(holds[words](bound) for words, bound in self.bounds)

    @property
    def expected(self) -> str:
        """Say in a sentence what is allowed.

        >>> Kind.of(Count).expected, Kind.of(Fraction | None).expected
        ('A whole number of at least 1 is expected.', 'A number from 0 to 1, or none, is expected.')
        """
        names = {bool: "true or false", str: "a text", Path: "a path", int: "a whole number"}
        finite = [(words, bound) for words, bound in self.bounds if bound != math.inf]
        if self.choices:
            name = f"one of {', '.join(map(str, self.choices))}"
        elif typing.get_origin(self.type) is tuple:
            choices = Kind.of(typing.get_args(self.type)[0]).choices
            name = f"a list of {', '.join(map(str, choices))}" if choices else "a list"
        elif self.is_config:
            name = "a table of settings"
        elif pattern := self.find(Pattern):
            name = pattern.words
        else:
            name = names.get(self.type, "a number" if finite == self.bounds else "a finite number")
        if [words for words, _ in finite] == ["at least", "at most"]:
            name += " from {:g} to {:g}".format(*(bound for _, bound in finite))
        elif finite:
            name += " of" * (finite[0][0] == "at least")
            name += " " + " and ".join(f"{words} {bound:g}" for words, bound in finite)
        name += ", or none," * self.optional
        return f"{name[0].upper()}{name[1:]} is expected."


def check_value(name: str, kind: Kind, value: Any) -> Any:
    """Convert a value for a field, and check it against the type and range of the field.

    Raises:
        UserError: It has the wrong type or is out of its range.
    """
    value = _converted(kind, value)
    if kind.type is int and isinstance(value, int) and abs(value) >= _INT_LIMIT:
        raise UserError(f"{name} is {value}. A whole number below 2**63 is expected.")
    is_text = kind.type is str and Mark.FILE_NAME not in kind.marks
    if is_text and isinstance(value, str) and has_surrogates(value):
        raise UserError(f"{name} is {value!r}, with half of a surrogate pair.")
    if not kind.accepts(value):
        raise UserError(f"{name} is {value!r}. {kind.expected}")
    return value


def _converted(kind: Kind, value: Any) -> Any:
    """A value in the type of its field, as far as nothing is lost; others stay as they are."""
    if isinstance(value, bool) and {"on", "off"} <= set(kind.choices):
        return "on" if value else "off"
    if kind.type is Path and isinstance(value, (str, os.PathLike)):
        return value if isinstance(value, Path) else Path(value)
    if typing.get_origin(kind.type) is tuple:
        inner = Kind.of(typing.get_args(kind.type)[0])
        if isinstance(value, (str, os.PathLike)):
            value = (value,)
        is_list = isinstance(value, (list, tuple))
        return tuple(_converted(inner, item) for item in value) if is_list else value
    if kind.type is str and isinstance(value, Path):
        return str(value)
    is_number = isinstance(value, numbers.Real) and not isinstance(value, (bool, int, float))
    if is_number and kind.type is int and isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if is_number and kind.type is float else value
