"""Check the arguments that Python callers pass, and refuse wrong ones in a sentence."""

import operator
import reprlib
from collections.abc import Callable
from typing import Any, TypeVar

from groundup.base.errors import UserError

_Function = TypeVar("_Function", bound=Callable[..., Any])


class WrongTypeError(UserError, TypeError):
    """A UserError about the type of an argument; `except TypeError` catches it too."""


def own_checks(function: _Function) -> _Function:
    """Mark a function that checks its own arguments.

    A runtime type checker (beartype in the tests) then leaves its calls alone, so a wrong argument
    meets the sentences of the function. Static type checkers see the function unchanged.
    """
    function.__no_type_check__ = True  # type: ignore[attr-defined]
    return function


def whole_number(name: str, value: object, *, at_least: int = 1) -> int:
    """Return a whole number of any integer type as int.

    >>> whole_number("stride", 4)
    4
    >>> whole_number("stride", 2.5)
    Traceback (most recent call last):
        ...
    groundup.base.arguments.WrongTypeError: stride is 2.5. A whole number of at least 1 is expected.

    Raises:
        UserError: The value is not a whole number, or too small.
    """
    expected = f"A whole number of at least {at_least} is expected."
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise WrongTypeError(f"{name} is {shown(value)}. {expected}")
    if number < at_least:
        raise UserError(f"{name} is {number}. {expected}")
    return number


def one_of(name: str, value: object, names: tuple[str, ...]) -> None:
    """Check that an argument is one of the names that it can have.

    >>> one_of("order", "shuffled", ("permuted", "sequential"))
    Traceback (most recent call last):
        ...
    groundup.base.errors.UserError: order is 'shuffled'. 'permuted' or 'sequential' is expected.

    Raises:
        UserError: It is something else.
    """
    if value not in names:
        *others, last = map(repr, names)
        raise UserError(f"{name} is {shown(value)}. {', '.join(others)} or {last} is expected.")


def shown(value: object) -> str:
    """Write a value for a message: numbers and None as they are, of anything else the type.

    >>> shown(2.5), shown(None), shown("text"), shown([1, 2])
    ('2.5', 'None', "'text'", 'an object of type list')
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return reprlib.repr(value)
    return f"an object of type {type(value).__name__}"
