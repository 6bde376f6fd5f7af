"""A client of server-sent events on asyncio, for load tests: it holds hundreds of streams open."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from groundup.base.errors import UserError

_LONGEST_LINE = 2**20


class RefusedError(Exception):
    """The server answered with an error.

    Args:
        status: The HTTP status.
        body: What the server answered.
        retry_after_s: When to try again. None: the server does not say.
    """

    def __init__(self, status: int, body: str, retry_after_s: float | None) -> None:
        self.status, self.body, self.retry_after_s = status, body, retry_after_s
        super().__init__(f"{status}: {body}")

    @property
    def message(self) -> str:
        """The sentence in the body, where it has the form of OpenAI's API; otherwise the body."""
        try:
            return str(json.loads(self.body)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            return self.body


class Address:
    """A server, and what every request to it sends.

    Args:
        url: Such as `http://127.0.0.1:8000`.
        api_key: Key that the server expects. None: it expects none.

    Raises:
        UserError: The URL is not one of HTTP.
    """

    def __init__(self, url: str, api_key: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise UserError(f"{url} is expected to be an address such as http://127.0.0.1:8000.")
        self.host, self.port = parts.hostname, parts.port or 80
        self._head = f"Host: {parts.netloc}\r\nConnection: close\r\n"
        if api_key is not None:
            self._head += f"Authorization: Bearer {api_key}\r\n"

    async def stream(
        self, path: str, body: Mapping[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Post a request, and yield the data of each event up to `[DONE]`.

        Closing the generator closes the connection.

        Raises:
            RefusedError: The server answered with an error.
            OSError: The connection failed or ended early.
        """
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=_LONGEST_LINE)
        try:
            data = json.dumps(body).encode()
            head = f"POST {path} HTTP/1.1\r\n{self._head}Content-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
            await writer.drain()
            async for line in _lines(_body(reader, path)):
                if line == b"data: [DONE]":
                    return
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
            raise ConnectionError(f"The stream of {path} ended before its last event.")
        finally:
            writer.close()

    async def get(self, path: str) -> str:
        """Return the answer to a GET request.

        Raises:
            RefusedError: The server answered with an error.
            OSError: The connection failed or ended early.
        """
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=_LONGEST_LINE)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\n{self._head}\r\n".encode())
            return b"".join([data async for data in _body(reader, path)]).decode()
        finally:
            writer.close()


async def _body(reader: asyncio.StreamReader, path: str) -> AsyncIterator[bytes]:
    """Yield the parts of a body."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1])
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
        parts = _parts(reader, headers)
        if status != 200:
            wait = headers.get("retry-after")
            body = b"".join([part async for part in parts]).decode(errors="replace")
            raise RefusedError(status, body, None if wait is None else float(wait))
        async for part in parts:
            yield part
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise ConnectionError(f"The answer to {path} ended early.") from error


async def _parts(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield (await reader.readexactly(size + 2))[:-2]
    elif "content-length" in headers:
        yield await reader.readexactly(int(headers["content-length"]))
    else:
        while part := await reader.read(_LONGEST_LINE):
            yield part


async def _lines(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
