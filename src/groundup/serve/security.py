"""Who may use a server: this machine, or clients with a key; never the page of another site.

A web page that someone visits can send requests to 127.0.0.1. So the names of host and origin are
checked, only application/json is read, which a page cannot send to another site without asking,
and that question (CORS) is never answered.

This is plain ASGI: Starlette's BaseHTTPMiddleware hides that a client has left.
"""

import hmac
import ipaddress
import logging
from collections.abc import Collection
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from groundup.base.errors import UsageError
from groundup.serve.body import read_body, replayed
from groundup.serve.errors import ApiError, as_api_error

_log = logging.getLogger(__name__)

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_SAFE_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        b"frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("")
    (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may use a server."""

    host: str = "127.0.0.1"
    """The address that it listens on."""
    api_key: str | None = None
    """The key that clients must send. None: no key."""
    allowed_hosts: Collection[str] = ()
    """Further names of this machine."""

    def __post_init__(self) -> None:
        """Check that other machines need a key.

        Raises:
            UsageError: They do not.
        """
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise UsageError("The key has other characters than ASCII letters, digits and signs.")
        if self.api_key is not None and len(self.api_key) < 8:
            raise UsageError("The key is shorter than 8 characters. A longer one is expected.")
        if self.api_key is None and not is_loopback(self.host):
            raise UsageError(
                f"Other machines can reach {self.host}, and no key is set. A key is expected in "
                "the environment variable GROUNDUP_API_KEY, or an address of this machine only.",
                settings={"host": "127.0.0.1"},
            )

    def is_host_known(self, name: str) -> bool:
        """Whether a client may use this name of the machine."""
        if name in (self.host.lower(), *(each.lower() for each in self.allowed_hosts)):
            return True
        if is_loopback(self.host):
            return name in LOOPBACK_NAMES
        # A page of another site gets here by the name of its site, and not by an address.
        return name in LOOPBACK_NAMES or _is_address(name)


class Security:
    """Checks every request before the application gets it.

    Args:
        app: The application.
        access: Who may use it.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a connection."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        has_started = False

        async def send_safely(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                given = {name.lower() for name, _ in message["headers"]}
                more = [header for header in _SAFE_HEADERS if header[0] not in given]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        try:
            self._check(scope)
            if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
                receive = replayed(await read_body(scope, receive), receive)
            await self._app(scope, receive, send_safely)
        except Exception as error:
            # Also bugs: the log of uvicorn would quote them, and with them a conversation.
            if not has_started:
                await as_api_error(error).response()(scope, receive, send_safely)

    def _check(self, scope: Scope) -> None:
        """Raise an ApiError for a request that may not be made."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._access.is_host_known(_without_port(host)):
            raise ApiError(
                f"The Host {host[:100]!r} is no name of this server. Use its address, or start it "
                "with the name in allowed_hosts.",
                status=421,
            )
        origin = headers.get(b"origin")
        if origin is not None:
            scheme, _, site = origin.decode("latin-1").lower().partition("://")
            if scheme not in ("http", "https") or site != host:
                raise ApiError(
                    f"The Origin {origin.decode('latin-1')[:100]!r} is another site. Only the page "
                    "of this server may send requests from a browser.",
                    status=403,
                )
        elif headers.get(b"sec-fetch-site", b"none") in (b"cross-site", b"same-site"):
            raise ApiError("The request comes from the page of another site.", status=403)
        if self._access.api_key is not None and not _is_public(scope):
            self._check_key(headers.get(b"authorization", b""), self._access.api_key)

    def _check_key(self, authorization: bytes, expected: str) -> None:
        scheme, _, given = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given, expected.encode()):
            found = "is wrong" if authorization else "is missing"
            raise ApiError(
                f"The key {found}. Expected the header Authorization: Bearer KEY.",
                status=401,
                headers={"WWW-Authenticate": "Bearer"},
            )


def _is_public(scope: Scope) -> bool:
    """Whether a path shows nothing but files of the page, or that the server runs."""
    path = scope["path"]
    is_page = path in ("/", "/health", "/favicon.ico") or path.startswith("/page/")
    return scope["method"] in ("GET", "HEAD") and is_page


def _without_port(host: str) -> str:
    """Return the name of a Host header.

    >>> _without_port("localhost:8000"), _without_port("[::1]:8000"), _without_port("a.b")
    ('localhost', '::1', 'a.b')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
