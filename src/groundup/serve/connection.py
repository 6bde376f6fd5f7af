"""A connection to a client: one of a limited number, which ends if the client does not read."""

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from groundup.serve.errors import ApiError

REQUEST_S = 30.0
"""Time until a connection's next request begins: until its headers are complete."""


class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """The protocol of uvicorn with limits.

    Args:
        most: Maximum number of connections. Requests of further ones are answered with an error.
        send_s: Time in seconds for which a client may leave data unread. None: no limit.
        settings: The arguments of uvicorn.
    """

    def __init__(self, *, most: int, send_s: float | int | None, **settings: Any) -> None:
        super().__init__(**settings)
        self._most, self._send_s = most, send_s
        self._unread: asyncio.TimerHandle | None = None
        self._unused: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # any data that cannot be sent pauses writing
        if len(self.connections) > self._most:
            self.app = self._full
        self._wait_for_request_after(None)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        answered = self.cycle
        super().on_response_complete()  # which may begin the next request
        self._wait_for_request_after(answered)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_timer()
        if self._unused is not None:
            self._unused.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait until the client reads, for a limited time."""
        super().pause_writing()
        self._stop_timer()
        if self._send_s is not None:
            self._unread = self.loop.call_later(self._send_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        self._stop_timer()
        super().resume_writing()

    def _stop_timer(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _wait_for_request_after(self, cycle: Any) -> None:
        """End the connection if no request begins after this one (None: the first one)."""

        def end_unused() -> None:
            if self.cycle is cycle:
                self.transport.abort()

        if self._unused is not None:
            self._unused.cancel()
        self._unused = self.loop.call_later(REQUEST_S, end_unused)

    async def _full(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = ApiError(
            f"The server has {self._most:,} connections, and takes no more. Send the request again "
            "in 1 s.",
            status=503,
            headers={"Retry-After": "1", "Connection": "close"},
        )
        await error.response()(scope, receive, send)
