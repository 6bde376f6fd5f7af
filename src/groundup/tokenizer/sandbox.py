"""Run a chat template of somebody else: as transformers renders it, without Python, within bounds.

A template is a program. Jinja's sandbox keeps it from Python's objects, but not from a loop without
end or a text of a terabyte: here every pass of a loop, every call and every text that is made is
counted.

Source: `_compile_jinja_template` of transformers 5.24 (utils/chat_template_utils.py).
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from groundup.base.errors import UserError
from groundup.tokenizer.tracked import Tracked, join_texts, plain

_MOST_STEPS = 100_000
_MOST_SECONDS = 5.0
_MOST_CHARACTERS = 2**22
"""Of a text, beside eight times the characters of the messages."""
_MOST_WORK = 2**26
"""Characters of all texts together, beside 64 times those of the messages."""
_MOST_BITS = 4096
_LONGEST_TEMPLATE = 2**20
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


class RefusedMessagesError(Exception):
    """The template called `raise_exception`."""


@dataclass
class _Budget:
    """What is left to one rendering."""

    n_characters: int
    n_work: int
    n_steps: int = _MOST_STEPS
    started_at: float = field(default_factory=time.thread_time)


_budget: ContextVar[_Budget] = ContextVar("budget")
_now: ContextVar[datetime | None] = ContextVar("now", default=None)
_FREE = _Budget(_MOST_CHARACTERS, _MOST_WORK)


def _step(*_: object) -> str:
    """Count one step of the template."""
    budget = _budget.get(_FREE)
    if budget is not _FREE:
        budget.n_steps -= 1
        if budget.n_steps < 0 or time.thread_time() - budget.started_at > _MOST_SECONDS:
            raise SecurityError("it takes too many steps")
    return ""


def _check_length(n: int) -> None:
    budget = _budget.get(_FREE)
    if n > budget.n_characters:
        raise SecurityError(f"it makes a text of {n:,} characters")
    if budget is not _FREE:
        budget.n_work -= n
        if budget.n_work < 0:
            raise SecurityError("it makes too many texts")


def _joined(texts: Iterable[object], separator: str = "") -> str:
    """Join texts within the bounds."""
    parts: list[str] = []
    n = 0
    for text in texts:
        parts.append(str(text))
        n += len(parts[-1]) + len(separator)
        if n > _budget.get(_FREE).n_characters:
            break
    _check_length(n)
    return join_texts(parts, separator)


class _Concatenations(NodeTransformer):
    """Join texts by `~` within the bounds, and keep where their characters came from."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        join = nodes.EnvironmentAttribute("join_all", lineno=node.lineno)
        return nodes.Call(join, node.nodes, [], None, None, lineno=node.lineno)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox of transformers, with every loop, call and text counted."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])
    concat = staticmethod(_joined)  # type: ignore[assignment]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        parsed = _Concatenations().visit(super()._parse(source, name, filename))
        for node in [*parsed.find_all((nodes.For, nodes.Macro, nodes.CallBlock))]:
            step = nodes.Call(
                nodes.EnvironmentAttribute("step"), [], [], None, None, lineno=node.lineno
            )
            node.body.insert(0, nodes.ExprStmt(step, lineno=node.lineno))
        assert isinstance(parsed, nodes.Template)
        return parsed

    @staticmethod
    def step() -> str:
        """Count one pass of a loop."""
        return _step()

    @staticmethod
    def join_all(*texts: object) -> str:
        """Join the operands of `~`."""
        return _joined(texts)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        raise SecurityError(f"it reaches for {attribute!r} of a {type(obj).__name__}")

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        owner, name = getattr(value, "__self__", None), getattr(value, "__name__", "")
        if isinstance(owner, str) and name.startswith("format") and _WIDTH.search(owner):
            raise SecurityError("it pads a text")
        return super().wrap_str_format(value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _step()
        match operator:
            case "+" if isinstance(left, str | list | tuple):
                _check_length(len(left) + (len(right) if hasattr(right, "__len__") else 0))
            case "*":
                _check_product(left, right)
            case "**" if isinstance(left, int) and isinstance(right, int):
                if abs(left).bit_length() * abs(right) > _MOST_BITS:
                    raise SecurityError("it computes a huge number")
            case "%" if isinstance(left, str) and _WIDTH.search(left):
                raise SecurityError("it pads a text")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        _step()
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str):
            if name == "join" and len(args) == 1:
                return _joined(args[0], owner)
            if name == "replace" and len(args) >= 2:
                return _replace(owner, *args)
            if name in ("ljust", "rjust", "center", "zfill", "expandtabs", "translate"):
                raise SecurityError(f"it pads a text with {name}")
        return super().call(context, obj, *args, **kwargs)


class _Generation(Extension):
    """The tag of transformers that marks what the model generated; it changes no text."""

    tags = frozenset(["generation"])

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller: Callable[[], str]) -> str:
        return caller()


class _Dict:
    """`dict` without its attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


class _Namespace(Namespace):
    """A namespace without underscored names."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, rest = args[0], args[1:]
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _Namespace._check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _Namespace._check_name(name)
        Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check_name(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"it stores the name {name!r} in a namespace")


@contextmanager
def at_one_time() -> Iterator[None]:
    """Give all templates that are rendered in this block the same time."""
    token = _now.set(datetime.now().astimezone())
    try:
        yield
    finally:
        _now.reset(token)


class Program:
    """A template that was read, and can be rendered any number of times.

    Raises:
        UserError: It is not valid.
    """

    def __init__(self, source: str) -> None:
        if len(source) > _LONGEST_TEMPLATE:
            raise UserError(
                f"The chat template has {len(source):,} characters. At most "
                f"{_LONGEST_TEMPLATE:,} are expected."
            )
        environment = _Environment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, loopcontrols],
            optimized=False,
        )
        for name in ("lipsum", "cycler", "joiner"):
            del environment.globals[name]
        environment.filters = {
            **{name: _counted(environment.filters[name]) for name in _FILTERS},
            "tojson": _counted(_to_json),
            "replace": _filter_replace,
            "join": _filter_join(environment),
            "indent": _filter_indent,
            "sum": _filter_sum(environment),
        }
        environment.globals |= {
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
            "dict": _Dict(),
            "namespace": _Namespace,
        }
        try:
            self._template = environment.from_string(source)
        except (TemplateError, *_FAILURES) as error:
            raise _invalid(error) from error

    def render(self, variables: Mapping[str, Any], n_characters: int) -> str:
        """Render the template.

        Args:
            variables: What it may read: plain JSON values, and tracked texts.
            n_characters: Number of characters of the messages, which the result may contain.

        Raises:
            RefusedMessagesError: The template refuses the messages.
            UserError: It is not valid, or exceeds what a template may do.
        """
        budget = _Budget(_MOST_CHARACTERS + 8 * n_characters, _MOST_WORK + 64 * n_characters)
        token = _budget.set(budget)
        try:
            return self._template.render(variables)
        except RefusedMessagesError:
            raise
        except (TemplateError, *_FAILURES) as error:
            raise _invalid(error) from error
        finally:
            _budget.reset(token)


_FAILURES = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError,
             MemoryError)  # fmt: skip


def _invalid(error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    reason = str(error) or type(error).__name__
    return UserError(f"The chat template cannot be rendered: {reason.rstrip('.')}.")


def _raise_exception(message: object) -> None:
    raise RefusedMessagesError(plain(str(message)))


def _strftime_now(form: str) -> str:
    _check_length(len(form))
    now = _now.get() or datetime.now().astimezone()
    return now.strftime(form)


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


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if abs(left).bit_length() + abs(right).bit_length() > _MOST_BITS:
            raise SecurityError("it computes a huge number")
        return
    for text, times in ((left, right), (right, left)):
        if isinstance(text, str | list | tuple) and isinstance(times, int):
            _check_length(len(text) * times)


def _replace(text: str, old: Any, new: Any, *count: Any) -> str:
    old, new = str(old), str(new)
    n_found = text.count(old) if old else len(text) + 1
    _check_length(len(text) + n_found * len(new))
    return text.replace(old, new, *count)


def _filter_replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    _step()
    return _replace(str(text), old, new, -1 if count is None else count)


def _filter_join(environment: _Environment) -> Callable[..., str]:
    def join(values: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
        if attribute is not None:
            values = environment.call_filter("map", values, kwargs={"attribute": attribute})
        return _joined(values, str(d))

    return join


def _filter_indent(
    text: Any, width: int | str = 4, first: bool = False, blank: bool = False
) -> str:
    n_more = len(width) if isinstance(width, str) else abs(int(width))
    _check_length(len(text) + (text.count("\n") + 1) * n_more)
    return str(FILTERS["indent"](text, width, first, blank))


def _filter_sum(environment: _Environment) -> Callable[..., Any]:
    def add(values: Iterable[Any], attribute: Any = None, start: Any = 0) -> Any:
        if not isinstance(start, int | float):
            raise SecurityError("it adds what is no number")
        return _counted(FILTERS["sum"])(environment, values, attribute, start)

    return add


def _counted(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        _step()
        if function is FILTERS["format"] and _WIDTH.search(str(args[0])):
            raise SecurityError("it pads a text")
        if any(isinstance(each, int) and abs(each) > 100_000 for each in args[1:]):
            raise SecurityError("a filter has a huge argument")
        return function(*args, **kwargs)

    return counted
