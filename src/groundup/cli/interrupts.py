"""Ctrl-C and SIGTERM: both end a command in the same way, and never in the middle of an import."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from groundup.base.terminated import Terminated

_SOON_S = 0.01


class Interrupts:
    """Raises KeyboardInterrupt for Ctrl-C and SIGTERM, and remembers that it did.

    Code in C may turn the KeyboardInterrupt into an error of its own. Outside of the block of
    `raised`, nothing is raised: an interrupted import leaves half a module, and once a command has
    ended, there is nothing left to interrupt.
    """

    def __init__(self) -> None:
        self.asked = False
        self._is_raised = False
        self._is_terminated = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self.asked = True
        self._is_terminated |= number == signal.SIGTERM
        if self._is_raised:
            self._interrupt()

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Raise in this block, also for a signal that came before it."""
        self._is_raised = True
        try:
            if self.asked:
                self._interrupt()
            yield
        finally:
            self._is_raised = False

    def repeat(self, unraisable: Any) -> None:
        """Repeat a signal that Python has dropped, because it met a finalizer (`__del__`)."""
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            number = signal.SIGTERM if self._is_terminated else signal.SIGINT
            threading.Timer(_SOON_S, signal.raise_signal, [number]).start()
        else:
            sys.__unraisablehook__(unraisable)

    def _interrupt(self) -> NoReturn:
        raise Terminated if self._is_terminated else KeyboardInterrupt


@contextmanager
def handled_interrupts() -> Iterator[Interrupts]:
    """Handle both signals in the block, except those that are ignored or handled elsewhere."""
    interrupts = Interrupts()
    usual = (signal.default_int_handler, signal.SIG_DFL)
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        before = {n: was for n, was in handlers.items() if was in usual}
    for number in before:
        signal.signal(number, interrupts)
    hook = sys.unraisablehook
    if before:
        sys.unraisablehook = interrupts.repeat
    try:
        yield interrupts
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
