"""Responses that end when their client has left, or when the server stops.

Starlette's own streams learn that a client has left only when they send; these are cancelled even
before the first token.
"""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from groundup.serve.errors import ApiError
from groundup.serve.served_model import ServedModel

T = TypeVar("T")


class Answering(Response):
    """A response for which the model works. It is cancelled when the client closes the connection.

    Args:
        served: The model.
    """

    def __init__(self, served: ServedModel) -> None:
        super().__init__()
        self.served = served
        self._wait: asyncio.Timeout | None = None
        self._is_ended = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Work until the end, or until the client has left."""
        work = asyncio.ensure_future(self._work(scope, receive, send))
        left = asyncio.ensure_future(_client_left(receive))
        try:
            await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            left.cancel()
            await asyncio.gather(work, left, return_exceptions=True)
        if not work.cancelled():
            work.result()  # raises what it has raised

    def end(self) -> None:
        """End the answer now, because the server stops."""
        self._is_ended = True
        if self._wait is not None:
            self._wait.reschedule(0.0)

    async def _work(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.served.open_answers.add(self.end)
        try:
            await self.generate(scope, receive, send)
        finally:
            self.served.open_answers.discard(self.end)

    @abstractmethod
    async def generate(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Generate, and send the answer."""

    async def next_event(self, events: AsyncIterator[T]) -> T:
        """Wait for the next event, unless the server stops.

        Raises:
            ApiError: It does.
        """
        try:
            async with asyncio.timeout(None) as self._wait:
                if not self._is_ended:
                    return await anext(events)
        except TimeoutError:
            pass
        finally:
            self._wait = None
        raise stopping()


def stopping() -> ApiError:
    """Make the error of an answer that the server does not complete."""
    return ApiError("The server is stopping, and the answer is not complete.", status=503)


async def _client_left(receive: Receive) -> None:
    """Wait until the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
