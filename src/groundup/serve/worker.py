"""The worker: a thread that steps the engine, and hands events to the event loop of the server."""

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import replace

from groundup.generation.engine import Engine, Event, Handle
from groundup.generation.request import Request
from groundup.serve.admission import Admission, Busy
from groundup.serve.counts import Counts
from groundup.serve.failure import described

_log = logging.getLogger(__name__)


class UnavailableError(Exception):
    """The server takes no more requests: it stops, or its engine failed."""


class _Open:
    """A request whose client listens."""

    def __init__(self, handle: Handle, loop: asyncio.AbstractEventLoop) -> None:
        self.handle, self.loop = handle, loop
        self.asked_at = time.monotonic()
        self.seen_at: dict[int, float] = {}
        """When the last token of each text came."""
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
        self.step_s = 0.0
        """How long a step takes now: the mean of the last ones, in seconds."""
        self._counts = Counts()
        self._open: dict[Handle, _Open] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stop_at: float | None = None

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
        engine = self.engine
        return replace(
            self._counts,
            n_running=engine.n_running,
            n_waiting=engine.n_waiting,
            cache_bytes=engine.decoder.n_bytes,
        )

    def reset_counts(self) -> None:
        """Forget what was done so far. No request is open."""
        with self._changed:
            self._counts = Counts()

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """Yield the events of a request, until all its texts have ended.

        The request is taken when the first event is awaited. Closing the generator or cancelling
        the task cancels the request: its row is free within two steps. A generator that may be
        left early belongs in `contextlib.aclosing`. A reader that has all it needs calls `end` of
        the handle before: such a request is not counted as cancelled.

        Raises:
            UserError: The request is wrong, or beyond a limit of the server.
            Busy: There is no room for the request now.
            UnavailableError: The server stops, or its engine failed.
        """
        opened = self._submit(request)
        n_going_on, has_failed = request.n, False
        try:
            while n_going_on:
                event = await opened.events.get()
                if isinstance(event, Exception):
                    raise event
                n_going_on -= event.finish_reason is not None
                has_failed |= event.finish_reason == "error"
                yield event
        finally:
            if n_going_on and not opened.handle.is_finished:
                self._counts.n_cancelled += opened.handle.ended_as is None and not has_failed
                opened.handle.cancel()

    def _submit(self, request: Request) -> _Open:
        with self._changed:
            self._check_available()
            self.engine.check(request)
            try:
                self.admission.check(request, list(self._open), self.engine, self.step_s)
            except Busy:
                self._counts.n_refused += 1
                raise
            handle = self.engine.submit(request)
            opened = self._open[handle] = _Open(handle, asyncio.get_running_loop())
            self._counts.n_requests += 1
            self._counts.n_prompt_tokens += len(request.ids)
            self._changed.notify()
        return opened

    def _check_available(self) -> None:
        if self.error is not None:
            raise UnavailableError(
                f"The engine failed ({described(self.error)}). Start the server again."
            )
        if self._stop_at is not None:
            raise UnavailableError("The server is stopping. It takes no more requests.")

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._has_work():
                self._end_late()
                began_at = time.monotonic()
                events = self.engine.step()
                step_s = time.monotonic() - began_at
                self.step_s += (step_s - self.step_s) * (0.1 if self.step_s else 1.0)
                self._counts.n_steps += 1
                self._counts.busy_s += step_s
                self._deliver(events)
        except Exception as error:  # a bug must not leave clients waiting
            _log.error("The engine failed: %s", described(error))
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
        with self._changed:  # a request that was submitted during the step is open by then
            for event in events:
                opened = self._open[event.handle]
                self._count(event, opened)
                news[opened.loop].append((opened, event))
            for handle in {event.handle for event in events if event.finish_reason is not None}:
                if handle.is_finished:
                    del self._open[handle]
        for loop, those in news.items():
            try:
                loop.call_soon_threadsafe(_put, those)
            except RuntimeError:  # the loop is closed: nobody listens
                for opened, _ in those:
                    opened.handle.cancel()

    def _count(self, event: Event, opened: _Open) -> None:
        counts, n_new = self._counts, len(event.tokens)
        counts.n_failed += event.finish_reason == "error"
        if not n_new:
            return
        counts.n_new_tokens += n_new
        now, before = time.monotonic(), opened.seen_at.get(event.index)
        if before is None:
            counts.first_token_s.observe(now - opened.asked_at)
        else:
            counts.next_token_s.observe((now - before) / n_new, n_new)
        opened.seen_at[event.index] = now

    def _end_late(self) -> None:
        """End the requests whose time is over."""
        limit_s = self.admission.limits.time_s
        if limit_s is None:
            return
        with self._changed:
            for opened in self._open.values():  # in the order in which they were taken
                if time.monotonic() < opened.asked_at + limit_s:
                    return
                if opened.handle.ended_as is None:
                    opened.handle.end("length")
                    self._counts.n_late += 1

    def _end_all(self) -> None:
        """Tell the clients of all open requests that the engine failed."""
        with self._changed:
            opened = list(self._open.values())
            self._open.clear()
            if self._stop_at is None and self.error is None:
                self.error = RuntimeError("The thread of the engine ended.")
        for each in opened:
            about = "" if self.error is None else f" ({described(self.error)})"
            error = UnavailableError(f"The engine failed{about}. Start the server again.")
            try:
                each.loop.call_soon_threadsafe(each.events.put_nowait, error)
            except RuntimeError:  # the loop is closed: nobody listens
                continue


def _put(news: list[tuple[_Open, Event]]) -> None:
    for opened, event in news:
        opened.events.put_nowait(event)
