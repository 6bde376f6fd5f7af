"""Run a chat template of somebody else: as transformers renders it, without Python, within bounds.

A template is a program. Jinja's sandbox keeps it from Python's objects, but not from a loop without
end or a text of a terabyte: here every pass of a loop, every call and every text that is made is
counted.

Source: `_compile_jinja_template` of transformers 5.24 (utils/chat_template_utils.py).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from groundup.base.errors import UserError
from groundup.tokenizer.template_limits import (
    budget_of,
    check_format,
    check_length,
    check_power,
    check_product,
    counted_filters,
    joined,
    replace_within,
    step,
)
from groundup.tokenizer.tracked import plain

_now: ContextVar[datetime | None] = ContextVar("now", default=None)
_LONGEST_TEMPLATE = 2**20


class RefusedMessagesError(Exception):
    """The template called `raise_exception`."""


class _Concatenations(NodeTransformer):
    """Join texts by `~` within the bounds, and keep where their characters came from."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        join = nodes.EnvironmentAttribute("join_all", lineno=node.lineno)
        return nodes.Call(join, node.nodes, [], None, None, lineno=node.lineno)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox of transformers, with every loop, call and text counted."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])
    concat = staticmethod(joined)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        parsed = _Concatenations().visit(super()._parse(source, name, filename))
        for node in [*parsed.find_all((nodes.For, nodes.Macro, nodes.CallBlock))]:
            count = nodes.Call(
                nodes.EnvironmentAttribute("step"), [], [], None, None, lineno=node.lineno
            )
            node.body.insert(0, nodes.ExprStmt(count, lineno=node.lineno))
        assert isinstance(parsed, nodes.Template)
        return parsed

    @staticmethod
    def step() -> str:
        """Count one pass of a loop."""
        return step()

    @staticmethod
    def join_all(*texts: object) -> str:
        """Join the operands of `~`."""
        return joined(texts)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        raise SecurityError(f"it reaches for {attribute!r} of a {type(obj).__name__}")

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        owner, name = getattr(value, "__self__", None), getattr(value, "__name__", "")
        if isinstance(owner, str) and name.startswith("format"):
            check_format(owner)
        return super().wrap_str_format(value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        step()
        match operator:
            case "+" if isinstance(left, str | list | tuple):
                check_length(len(left) + (len(right) if hasattr(right, "__len__") else 0))
            case "*":
                check_product(left, right)
            case "**":
                check_power(left, right)
            case "%":
                check_format(left)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        step()
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str):
            if name == "join" and len(args) == 1:
                return joined(args[0], owner)
            if name == "replace" and len(args) >= 2:
                return replace_within(owner, *args)
            if name in ("ljust", "rjust", "center", "zfill", "expandtabs", "translate"):
                raise SecurityError(f"it pads a text with {name}")
        return super().call(context, obj, *args, **kwargs)


class _Generation(Extension):
    """The tag of transformers that marks what the model generated; it changes no text."""

    tags = {"generation"}  # noqa: RUF012

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
        environment.filters = counted_filters(environment)
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
        try:
            with budget_of(n_characters):
                return self._template.render(variables)
        except (TemplateError, *_FAILURES) as error:
            raise _invalid(error) from error


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
    check_format(form)
    now = _now.get() or datetime.now().astimezone()
    return now.strftime(form)
