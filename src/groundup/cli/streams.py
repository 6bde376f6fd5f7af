"""Standard streams that never end a command: any encoding, closed, full, or with a reader gone.

Everything that is printed passes through here, so no view has to care.
"""

import codecs
import errno
import io
import os
import sys
from contextlib import suppress

_ASCII = {
    "⏎": "$",
    "⇥": ">",
    "·": "_",
    "✓": "+",
    "✗": "x",
    "…": ".",
    "─": "-",
    "━": "-",
    "→": ">",
    "░": ".",
    "▒": ":",
    "▓": "*",
    "█": "#",
    "╸": "-",
    "╺": "-",
    "–": "-",
    "—": "-",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
}
"""Marks for the signs that the commands print and that an encoding may lack; all one wide."""


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    """The error handler `groundup`: a mark, or a question mark, for what cannot be shown."""
    assert isinstance(error, UnicodeEncodeError)
    if codecs.lookup(error.encoding).name == "utf-8":  # a lone surrogate
        return "\N{REPLACEMENT CHARACTER}".encode() * (error.end - error.start), error.end
    found = error.object[error.start : error.end]
    return "".join(_ASCII.get(character, "?") for character in found), error.end


codecs.register_error("groundup", _replaced)


def accept_all_text() -> None:
    """Let the standard streams replace what their encoding lacks."""
    for stream, errors in (
        (sys.stdout, "groundup"),
        (sys.stderr, "groundup"),
        (sys.stdin, "surrogateescape"),
    ):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(ValueError, OSError):
                stream.reconfigure(errors=errors)


def open_closed_streams() -> None:
    """Open what the shell has closed (`>&-`) as the null device.

    Otherwise the next file that a command opens would get the number of the standard output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


class Guard(io.RawIOBase):
    """The bytes of a stream: what cannot be written is dropped, and the first reason is kept."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.failure: OSError | None = None

    def write(self, data: object) -> int:
        """Write bytes, or count them as written after a failure.

        Raises:
            BrokenPipeError: The reader of a pipe has closed it.
        """
        block = memoryview(data)  # type: ignore[arg-type]
        if self.failure is None:
            try:
                return os.write(self._descriptor, block)
            except OSError as error:
                if error.errno == errno.EPIPE:
                    raise
                self.failure = error
        return block.nbytes

    def writable(self) -> bool:
        """It is."""
        return True

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        """The number of the stream."""
        return self._descriptor


def guarded(stream: io.TextIOWrapper) -> tuple[io.TextIOWrapper, Guard]:
    """The same stream over a guard. A terminal is never full, and has its own ways on Windows."""
    guard = Guard(stream.fileno())
    if stream.isatty():
        return stream, guard
    with suppress(OSError):
        stream.flush()
    text = io.TextIOWrapper(
        io.BufferedWriter(guard),
        encoding=stream.encoding,
        errors="groundup",
        line_buffering=stream.line_buffering,
    )
    return text, guard
