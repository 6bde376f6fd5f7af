"""Packages that only some users need: imported when asked for, or the line to type is told."""

import importlib
from typing import Any

from groundup.base.errors import UserError


def needed(module: str, extra: str, where: str) -> Any:
    """Import an optional package.

    Raises:
        UserError: It is not installed; the line to type is told.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"the package {module} is not installed",
            need="it, for this",
            where=where,
            type_this=f"pip install 'groundup[{extra}]'",
        ) from error
