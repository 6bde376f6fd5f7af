"""A second destination for the log of the package: a file of the run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Write the log of the package to a file too, until the end of the block."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger("groundup").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("groundup").removeHandler(handler)
        with suppress(OSError):
            handler.close()


class _LogFile(logging.FileHandler):
    """A log file that ignores a full disk: other files that cannot be written report it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's own name)
        pass
