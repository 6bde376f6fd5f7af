"""The HTTP server: the port, Ctrl-C, and the last chunks of streams that are open then."""

import asyncio
import errno
import http.client
import logging
import os
import socket
import urllib.request
from functools import partial
from types import FrameType
from typing import Any

import orjson
import uvicorn
from starlette.types import ASGIApp

from groundup.base.errors import UserError, quoted
from groundup.serve.connection import Connection
from groundup.serve.failure import described
from groundup.serve.served_model import ServedModel

_log = logging.getLogger(__name__)

GRACE_S = 1.0
"""Time that open requests have to end by themselves after Ctrl-C."""
_LAST_CHUNK_S = 1.0
"""Time after that, for the last chunks; a step of the engine is not waited for any longer."""
_BACKLOG = 2048
_CONNECTIONS_PER_TEXT = 4
"""Connections for each text that is generated or waits; the others are refused, or idle."""


class HttpServer(uvicorn.Server):
    """Serves an application until Ctrl-C or SIGTERM; a second signal ends it at once.

    Args:
        app: The application.
        served: The model, whose worker is drained.
        least_connections: Number of connections that are open at once in any case.
    """

    def __init__(self, app: ASGIApp, served: ServedModel, least_connections: int = 0) -> None:
        limits = served.worker.admission.limits
        n_texts = served.worker.engine.max_rows + limits.n_waiting
        most = max(_CONNECTIONS_PER_TEXT * n_texts, least_connections)
        # Its messages quote texts, and nobody is to act on a client that has left.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(Connection, most=most, send_s=limits.time_s),  # type: ignore[arg-type]
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="critical",  # no addresses, and no tracebacks, which quote texts
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=3,
                callback_notify=self._check_model,
                timeout_notify=2,
            )
        )
        self._served = served
        self._has_warned = False

    async def _check_model(self) -> None:
        """Warn once where the model is no longer on the disk as it was."""
        what = await asyncio.to_thread(self._served.gone)
        if what is not None and not self._has_warned:
            self._has_warned = True
            folder = self._served.model.path
            command = "groundup serve" + (f" {quoted(folder)}" if "replaced" in what else "")
            _log.warning(
                "%s %s. The server goes on with the model that it has read. To serve another "
                "one, stop it with Ctrl-C and type: %s",
                folder,
                what,
                command,
            )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal. uvicorn's own method would raise it again at the end."""
        if self.should_exit:
            self.force_exit = True
            raise KeyboardInterrupt
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        asyncio.get_running_loop().set_exception_handler(_name_error)
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End open requests with a last chunk, then close all connections."""
        for server in self.servers:
            server.close()  # no new connections
        self._served.worker.drain(GRACE_S)
        end = asyncio.get_running_loop().call_later(
            GRACE_S + _LAST_CHUNK_S, self._served.end_answers
        )
        try:
            await super().shutdown(sockets)
        finally:
            end.cancel()


def _name_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that nothing has caught, without its message."""
    error = context.get("exception")
    _log.error("A task failed: %s", "no exception" if error is None else described(error))


def bind(host: str, port: int) -> socket.socket:
    """Take a port. Clients cannot connect until `listen`.

    Raises:
        UserError: The port is taken, or this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere, it would let several programs have the port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise _not_bound(host, port, error) from error
    return found


def listen(found: socket.socket) -> None:
    """Let clients connect.

    Raises:
        UserError: Another program has bound the port at the same time, and listens already.
    """
    try:
        found.listen(_BACKLOG)
    except OSError as error:
        host, port = found.getsockname()[:2]
        raise _not_bound(host, port, error) from error


def address(found: socket.socket) -> str:
    """The address of a port, as clients on this machine write it."""
    host, port = found.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _not_bound(host: str, port: int, error: OSError) -> UserError:
    if error.errno == errno.EADDRINUSE:
        model = _served_there(host, port)
        by = "another program" if model is None else f"a groundup server of the model {model}"
        return UserError(
            f"Port {port} of {host} is taken by {by}. Expected a free port.",
            settings={"port": port + 1 if port < 65535 else 0},
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return UserError(
            f"Port {port} may not be used ({error.strerror}). Expected a port above 1023.",
            settings={"port": 8000},
        )
    reason = error.strerror or error
    return UserError(
        f"{host} is no address of this machine that a server can use ({reason}).",
        settings={"host": "127.0.0.1"},
    )


def _served_there(host: str, port: int) -> str | None:
    """The model of the groundup server at an address. None: it is another program."""
    shown = f"[{host}]" if ":" in host else host
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{shown}:{port}/health", timeout=0.5) as answer:
            model = orjson.loads(answer.read(10_000))["model"]
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return None
    return model if isinstance(model, str) else None
