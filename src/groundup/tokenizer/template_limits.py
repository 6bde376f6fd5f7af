"""What a chat template may use: steps, characters, and filters that are counted."""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from jinja2 import Environment
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS

from groundup.tokenizer.tracked import Tracked, join_texts

_MOST_STEPS = 100_000
_MOST_SECONDS = 5.0
_MOST_CHARACTERS = 2**22
"""Of a text, beside eight times the characters of the messages."""
_MOST_WORK = 2**26
"""Characters of all texts together, beside 64 times those of the messages."""
_MOST_BITS = 4096
_WIDTH = re.compile(r"\*|\d{5}|\{[^}]*\{")
"""What makes a text long in a format."""
_FILTERS = (
    *("abs", "attr", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first"),
    *("float", "format", "groupby", "int", "items", "join", "last", "length", "list"),
    *("lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "safe"),
    *("select", "selectattr", "sort", "string", "title", "trim", "truncate", "unique"),
    *("upper", "urlencode", "wordcount"),
)
"""The filters of Jinja whose results are no larger than what they are given."""


@dataclass
class _Budget:
    """What is left to one rendering."""

    n_characters: int
    n_work: int
    n_steps: int = _MOST_STEPS
    started_at: float = field(default_factory=time.thread_time)


_budget: ContextVar[_Budget] = ContextVar("budget")
_FREE = _Budget(_MOST_CHARACTERS, _MOST_WORK)


def step(*_: object) -> str:
    """Count one step of the template."""
    budget = _budget.get(_FREE)
    if budget is not _FREE:
        budget.n_steps -= 1
        if budget.n_steps < 0 or time.thread_time() - budget.started_at > _MOST_SECONDS:
            raise SecurityError("it takes too many steps")
    return ""


def check_length(n: int) -> None:
    """Count a text of this length before it is made."""
    budget = _budget.get(_FREE)
    if n > budget.n_characters:
        raise SecurityError(f"it makes a text of {n:,} characters")
    if budget is not _FREE:
        budget.n_work -= n
        if budget.n_work < 0:
            raise SecurityError("it makes too many texts")


def joined(texts: Iterable[object], separator: str = "") -> str:
    """Join texts within the bounds."""
    parts: list[str] = []
    n = 0
    for text in texts:
        parts.append(str(text))
        n += len(parts[-1]) + len(separator)
        if n > _budget.get(_FREE).n_characters:
            break
    check_length(n)
    return join_texts(parts, separator)


@contextmanager
def budget_of(n_characters: int) -> Iterator[None]:
    """Count what is used in this block, which may write the messages' characters."""
    budget = _Budget(_MOST_CHARACTERS + 8 * n_characters, _MOST_WORK + 64 * n_characters)
    token = _budget.set(budget)
    try:
        yield
    finally:
        _budget.reset(token)


def check_power(base: Any, exponent: Any) -> None:
    """Refuse a power with too many digits."""
    is_whole = isinstance(base, int) and isinstance(exponent, int)
    if is_whole and abs(base).bit_length() * abs(exponent) > _MOST_BITS:
        raise SecurityError("it computes a huge number")


def check_format(form: object) -> None:
    """Refuse a format that makes a text longer than what it is given."""
    if isinstance(form, str) and _WIDTH.search(form):
        raise SecurityError("it pads a text")


def counted_filters(environment: Environment) -> dict[str, Callable[..., Any]]:
    """Return the filters of a template, each of which counts a step."""
    return {
        **{name: _counted(FILTERS[name]) for name in _FILTERS},
        "tojson": _counted(_to_json),
        "replace": _filter_replace,
        "join": _filter_join(environment),
        "indent": _filter_indent,
        "sum": _filter_sum(environment),
    }


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if isinstance(indent, int) and indent > 1000:
        raise SecurityError("it indents too far")
    return json.dumps(
        _escapable(value),
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _escapable(value: Any) -> Any:
    """Show the characters that JSON escapes."""
    if isinstance(value, Tracked):
        shown = value.marks.show
        return "".join(
            c if json.dumps(shown(c), ensure_ascii=False)[1:-1] == shown(c) else shown(c)
            for c in str.__iter__(value)
        )
    if isinstance(value, Mapping):
        return {key: _escapable(item) for key, item in value.items()}
    return [_escapable(item) for item in value] if isinstance(value, list | tuple) else value


def check_product(left: Any, right: Any) -> None:
    """Refuse a product that is too long a text, or has too many digits."""
    if isinstance(left, int) and isinstance(right, int):
        if abs(left).bit_length() + abs(right).bit_length() > _MOST_BITS:
            raise SecurityError("it computes a huge number")
        return
    for text, times in ((left, right), (right, left)):
        if isinstance(text, str | list | tuple) and isinstance(times, int):
            check_length(len(text) * times)


def replace_within(text: str, old: Any, new: Any, *count: Any) -> str:
    """Replace a part of a text within the bounds."""
    old, new = str(old), str(new)
    n_found = text.count(old) if old else len(text) + 1
    check_length(len(text) + n_found * len(new))
    return text.replace(old, new, *count)


def _filter_replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    step()
    return replace_within(str(text), old, new, -1 if count is None else count)


def _filter_join(environment: Environment) -> Callable[..., str]:
    def join(values: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
        if attribute is not None:
            values = environment.call_filter("map", values, kwargs={"attribute": attribute})
        return joined(values, str(d))

    return join


def _filter_indent(
    text: Any, width: int | str = 4, first: bool = False, blank: bool = False
) -> str:
    n_more = len(width) if isinstance(width, str) else abs(int(width))
    check_length(len(text) + (text.count("\n") + 1) * n_more)
    return str(FILTERS["indent"](text, width, first, blank))


def _filter_sum(environment: Environment) -> Callable[..., Any]:
    def add(values: Iterable[Any], attribute: Any = None, start: Any = 0) -> Any:
        if not isinstance(start, int | float):
            raise SecurityError("it adds other values than numbers")
        return _counted(FILTERS["sum"])(environment, values, attribute, start)

    return add


def _counted(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        step()
        if function is FILTERS["format"]:
            check_format(args[0])
        if any(isinstance(each, int) and abs(each) > 100_000 for each in args[1:]):
            raise SecurityError("a filter has a huge argument")
        return function(*args, **kwargs)

    return counted
