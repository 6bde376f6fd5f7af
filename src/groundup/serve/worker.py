"""The worker: a thread that steps the engine, and hands events to the event loop of the server."""

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass

from groundup.generation.engine import Engine, Event, Handle
from groundup.generation.request import Request
from groundup.serve.admission import Admission

_log = logging.getLogger(__name__)


class UnavailableError(Exception):
    """The server takes no more requests: it stops, or its engine failed."""


@dataclass(frozen=True)
class Counts:
    """What the worker has done so far, and what it does now."""

    n_running: int
    """Texts that are being generated."""
    n_waiting: int
    """Texts that wait until others have ended."""
    n_requests: int
    """Requests that were taken, of all time."""
    n_refused: int
    """Requests that were refused because the server was busy."""
    n_cancelled: int
    """Requests whose client left before the end."""
    n_steps: int
    n_prompt_tokens: int
    """Tokens of the prompts that were taken."""
    n_new_tokens: int
    """Tokens that were generated."""


class _Open:
    """A request whose client listens."""

    def __init__(self, handle: Handle, loop: asyncio.AbstractEventLoop) -> None:
        self.handle, self.loop = handle, loop
        self.events: asyncio.Queue[Event | Exception] = asyncio.Queue()


class Worker:
    """Runs an engine for many clients at once.

    `generate` may be called from any event loop. The engine belongs to the worker's own thread
    between `start` and `stop`.

    Args:
        engine: Generates the texts.
        admission: Which requests are taken.
    """

    def __init__(self, engine: Engine, *, admission: Admission | None = None) -> None:
        self.engine = engine
        self.admission = admission or Admission()
        self.error: Exception | None = None
        """Why the engine ended. None: it works."""
        self._open: dict[Handle, _Open] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stop_at: float | None = None
        self._n_requests = self._n_refused = self._n_cancelled = 0
        self._n_steps = self._n_prompt_tokens = self._n_new_tokens = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="groundup-engine", daemon=True)
        self._thread.start()

    def drain(self, grace_s: float | int) -> None:
        """Refuse new requests, and end the open ones after `grace_s` seconds. Returns at once."""
        with self._changed:
            stop_at = time.monotonic() + grace_s
            self._stop_at = stop_at if self._stop_at is None else min(stop_at, self._stop_at)
            self._changed.notify()

    def stop(self, grace_s: float | int) -> None:
        """Drain, and wait for the thread.

        A step of the engine that runs is not interrupted. Call it outside the event loop (for
        example with `asyncio.to_thread`), so that the clients receive their last events meanwhile.
        """
        self.drain(grace_s)
        if self._thread is not None:
            self._thread.join()

    @property
    def is_healthy(self) -> bool:
        """Whether requests are taken."""
        return self.error is None and self._stop_at is None

    @property
    def counts(self) -> Counts:
        """What the worker has done so far, and what it does now."""
        return Counts(
            n_running=self.engine.n_running,
            n_waiting=self.engine.n_waiting,
            n_requests=self._n_requests,
            n_refused=self._n_refused,
            n_cancelled=self._n_cancelled,
            n_steps=self._n_steps,
            n_prompt_tokens=self._n_prompt_tokens,
            n_new_tokens=self._n_new_tokens,
        )

    async def generate(self, request: Request) -> AsyncIterator[Event]:
        """Yield the events of a request, until all its texts have ended.

        The request is taken when the first event is awaited. Closing the generator or cancelling
        the task cancels the request: its row is free within two steps. A generator that may be
        left early belongs in `contextlib.aclosing`.

        Raises:
            UserError: The request is wrong, or beyond a limit of the server.
            Busy: There is no room for the request now.
            UnavailableError: The server stops, or its engine failed.
        """
        opened = self._submit(request)
        n_going_on = request.n
        try:
            while n_going_on:
                event = await opened.events.get()
                if isinstance(event, Exception):
                    raise event
                n_going_on -= event.finish_reason is not None
                yield event
        finally:
            if n_going_on and not opened.handle.is_finished:
                opened.handle.cancel()
                self._n_cancelled += 1

    def _submit(self, request: Request) -> _Open:
        loop = asyncio.get_running_loop()
        self.admission.check(request)
        with self._changed:
            self._check_available()
            handle = self.engine.submit(request)
            opened = self._open[handle] = _Open(handle, loop)
            self._n_requests += 1
            self._n_prompt_tokens += len(request.ids)
            self._changed.notify()
        return opened

    def _check_available(self) -> None:
        if self.error is not None:
            raise UnavailableError(
                f"The engine failed ({type(self.error).__name__}: {self.error}). Start the server "
                "again."
            )
        if self._stop_at is not None:
            raise UnavailableError("The server is stopping. It takes no more requests.")

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._has_work():
                events = self.engine.step()
                self._n_steps += 1
                self._deliver(events)
        except Exception as error:  # a bug must not leave clients waiting
            _log.exception("The engine failed.")
            self.error = error
        finally:
            self._end_all()

    def _has_work(self) -> bool:
        """Wait until there is something to generate. False: the worker stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._stop_at is not None or not self.engine.is_idle)
            if self._stop_at is not None and time.monotonic() >= self._stop_at:
                for handle in self._open:
                    handle.cancel()
            return not self.engine.is_idle

    def _deliver(self, events: list[Event]) -> None:
        """Hand the events of one step to the clients, with one call for each event loop."""
        news: defaultdict[asyncio.AbstractEventLoop, list[tuple[_Open, Event]]] = defaultdict(list)
        for event in events:
            self._n_new_tokens += len(event.tokens)
            opened = self._open.get(event.handle)
            if opened is None:
                continue
            news[opened.loop].append((opened, event))
            if event.finish_reason is not None and event.handle.is_finished:
                with self._changed:
                    del self._open[event.handle]
        for loop, those in news.items():
            try:
                loop.call_soon_threadsafe(_put, those)
            except RuntimeError:  # the loop is closed: nobody listens
                for opened, _ in those:
                    opened.handle.cancel()

    def _end_all(self) -> None:
        """Tell the clients of all open requests that the engine failed."""
        with self._changed:
            opened = list(self._open.values())
            self._open.clear()
            if self._stop_at is None and self.error is None:
                self.error = RuntimeError("The thread of the engine ended.")
        for each in opened:
            error = UnavailableError(f"The engine failed: {self.error}")
            try:
                each.loop.call_soon_threadsafe(each.events.put_nowait, error)
            except RuntimeError:  # the loop is closed: nobody listens
                continue


def _put(news: list[tuple[_Open, Event]]) -> None:
    for opened, event in news:
        opened.events.put_nowait(event)
