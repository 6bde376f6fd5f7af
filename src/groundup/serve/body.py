"""Read the body of a request within limits, before anything is made of it."""

import asyncio
import re

import numpy as np
from starlette.types import Message, Receive, Scope

from groundup.serve.errors import ApiError

MOST_BYTES = 2**20
"""Size of a body. A prompt of 128k tokens fits."""
MOST_DEPTH = 64
"""How deep lists and objects may be nested."""
MOST_CONTAINERS = 20_000
"""Lists and objects in a body. Python needs half a second to make 300,000 of them."""
_TIMEOUT_S = 30.0
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_OPENING, _CLOSING = (np.frombuffer(signs, dtype=np.uint8) for signs in (b"[{", b"]}"))


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """Read the body of a request.

    Raises:
        ApiError: It is too large, nested too deeply, too slow, or not application/json.
    """
    headers = dict(scope["headers"])
    _check_type(headers)
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared[:20]) > MOST_BYTES:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ApiError("The client left before its request was complete.")
                body += message.get("body", b"")
                if len(body) > MOST_BYTES:
                    raise _too_large()
                if not message.get("more_body", False):
                    break
    except TimeoutError as error:
        raise ApiError(
            f"The request was not complete after {_TIMEOUT_S:.0f} seconds.", status=408
        ) from error
    n_containers, depth = containers(bytes(body))
    if depth > MOST_DEPTH:
        raise ApiError(
            f"The JSON is nested more than {MOST_DEPTH} deep. Fewer levels are expected."
        )
    if n_containers > MOST_CONTAINERS:
        raise ApiError(
            f"The JSON has {n_containers:,} lists and objects. At most {MOST_CONTAINERS:,} are "
            "expected."
        )
    return bytes(body)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Make the function that returns a body that was read, and then what comes after it."""
    is_read = False

    async def receive_again() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def containers(text: bytes) -> tuple[int, int]:
    """Count the lists and objects of a JSON text; return also how deep they are nested.

    >>> containers(b'{"a": [1, [2], [3]], "b": "[[[["}')
    (4, 3)
    """
    marks = np.frombuffer(_STRING.sub(b"", text), dtype=np.uint8)
    is_opening, is_closing = np.isin(marks, _OPENING), np.isin(marks, _CLOSING)
    depth = is_opening.astype(np.int32) - is_closing
    return int(is_opening.sum()), int(depth.cumsum().max(initial=0))


def _check_type(headers: dict[bytes, bytes]) -> None:
    given = headers.get(b"content-type", b"").decode("latin-1")
    kind, _, parameters = given.partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if kind.strip().lower() != "application/json" or charset not in ("", "utf-8", "utf8"):
        raise ApiError(
            f"The Content-Type is {given[:100]!r}. application/json in UTF-8, without another "
            "parameter, is expected.",
            status=415,
        )
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise ApiError("The body is compressed. A plain body is expected.", status=415)


def _too_large() -> ApiError:
    return ApiError(
        f"The body is larger than {MOST_BYTES:,} bytes. A shorter request is expected.", status=413
    )
