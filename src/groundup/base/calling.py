"""Call a command from Python: with its config, or with a path and settings by name."""

import dataclasses
import functools
import inspect
import os
import typing
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from groundup.base.errors import UserError
from groundup.base.fields import field_kinds, replace_settings

P = ParamSpec("P")
C = TypeVar("C")
R = TypeVar("R", covariant=True)
C_in = TypeVar("C_in", contravariant=True)
PathLike = str | os.PathLike[str]


@typing.runtime_checkable
class Command(typing.Protocol, Generic[C_in, P, R]):
    """A function that takes a config, or what a config is made from."""

    @overload
    def __call__(self, config: C_in, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(self, /, *paths: PathLike | Sequence[PathLike], **settings: Any) -> R: ...


def takes_settings(
    cls: type[C], positional: str
) -> Callable[[Callable[Concatenate[C, P], R]], Command[C, P, R]]:
    """Let a function of a config be called with a path and settings by name, too.

    Args:
        cls: The config class.
        positional: The setting that is given by position.

    >>> from groundup.data.config import WindowsConfig
    >>> @takes_settings(WindowsConfig, "data")
    ... def example(config, n=0):
    ...     return str(config.data), config.batch_size, n
    >>> example(WindowsConfig(batch_size=3)) == example(batch_size=3) == ("data", 3, 0)
    True
    >>> example("other", batch_size=4, n=1)
    ('other', 4, 1)
    """

    def decorate(function: Callable[Concatenate[C, P], R]) -> Command[C, P, R]:
        own = list(inspect.signature(function).parameters)[1:]

        @functools.wraps(function)
        def called(*args: Any, **keywords: Any) -> Any:
            config = keywords.pop("config", args[0] if args else None)
            if isinstance(config, cls):
                return _run(function, config, *args[1:], **keywords)
            extra = {name: keywords.pop(name) for name in own if name in keywords}
            if "given" in own:  # what a budget must not choose
                extra.setdefault("given", frozenset(keywords))
            config = _make(cls, positional, args, keywords, function.__name__)
            return _run(function, config, **extra)

        return typing.cast(Command[C, P, R], called)

    return decorate


def _make(
    cls: type[C], positional: str, args: tuple[Any, ...], settings: dict[str, Any], name: str
) -> C:
    is_several = typing.get_origin(field_kinds(cls)[positional].type) is tuple
    if args:
        if positional in settings or (len(args) > 1 and not is_several):
            raise TypeError(
                f"{name}() takes a {cls.__name__}, or one value of {positional} and settings by "
                f"name; got {len(args)} values."
            )
        if dataclasses.is_dataclass(args[0]):
            raise TypeError(f"{name}() takes a {cls.__name__}, not a {type(args[0]).__name__}.")
        is_list = isinstance(args[0], (list, tuple))
        settings[positional] = args[0] if len(args) == 1 and (is_list or not is_several) else args
    return replace_settings(cls(), **settings)


def _run(function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    try:
        return function(*args, **keywords)
    except PermissionError as error:
        raise UserError(
            f"This file cannot be opened ({error.strerror}).", where=error.filename
        ) from error
