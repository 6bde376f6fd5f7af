"""The functions of the commands, by name. cyclopts imports one when it needs its options."""

import functools
from collections.abc import Callable
from typing import Any


@functools.cache
def __getattr__(name: str) -> Callable[..., Any]:
    from groundup.cli.options import make_command
    from groundup.cli.verbs import VERBS

    for verb in VERBS:
        if verb.name.replace("-", "_") == name:
            return make_command(verb)
    raise AttributeError(name)
