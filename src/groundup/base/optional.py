"""Things that a command can do without: an error in one of them becomes a warning."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from groundup.base.errors import UserError

_log = logging.getLogger(__name__)


@contextmanager
def going_on(what: str) -> Iterator[None]:
    """Turn an error in the block into a warning: the model is worth more than what is missing."""
    try:
        yield
    except Exception as error:
        reason = error.located if isinstance(error, UserError) else str(error)
        _log.warning("%s is missing: %s", what, reason or type(error).__name__)
