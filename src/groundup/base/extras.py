"""Import optional dependencies when they are used, or name the command that installs them."""

import importlib
from typing import Any

from groundup.base.errors import UserError, quoted


def needed(module: str, extra: str, where: str) -> Any:
    """Import an optional package.

    Raises:
        UserError: The package is not installed. The error contains the command that installs all
            packages of the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{module.partition('.')[0]} is not installed. It is a package of the extra {extra}.",
            where=where,
            command=f"pip install -c constraints.txt -e {quoted(f'.[{extra}]')}",
        ) from error
