"""Functions that torch's compiler does not trace."""

from collections.abc import Callable
from typing import Any

import torch


def not_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let the compiler call a function as it is, for instance one whose loop it would unroll.

    `torch.compiler.disable` as a decorator imports the compiler, which takes most of a second at
    the start of every command. Here it is called, and the compiler imported, only while something
    is compiled.

    >>> double = not_compiled(lambda x: 2 * x)
    >>> double(torch.ones(2))
    tensor([2., 2.])
    """

    def call(*arguments: Any) -> Any:
        if torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*arguments)  # type: ignore[no-untyped-call]
        return function(*arguments)

    return call
