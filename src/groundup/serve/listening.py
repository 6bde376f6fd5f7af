"""A response that ends when its client has left.

Starlette's own streams learn that a client has left only when they send; this one is cancelled even
before the first token.
"""

import asyncio
from abc import abstractmethod

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class Listening(Response):
    """A response whose work is cancelled when the client closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Work until the end, or until the client has left."""
        work = asyncio.ensure_future(self.work(scope, receive, send))
        left = asyncio.ensure_future(_client_left(receive))
        try:
            await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            left.cancel()
            await asyncio.gather(work, left, return_exceptions=True)
        if not work.cancelled():
            work.result()  # raises what it has raised

    @abstractmethod
    async def work(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Make the response and send it."""


async def _client_left(receive: Receive) -> None:
    """Wait until the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
