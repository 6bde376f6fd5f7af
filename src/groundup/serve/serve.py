"""Serve a model over HTTP: load it, plan, take a port, and answer until Ctrl-C."""

import os
import socket
from dataclasses import replace
from pathlib import Path

from groundup.base.calling import takes_settings
from groundup.base.device import choose_device
from groundup.base.extras import needed
from groundup.evaluation.decoders import form_of
from groundup.evaluation.load import load
from groundup.evaluation.text_generation import text_engine
from groundup.serve.config import ServeConfig
from groundup.serve.find_model import find_model, model_name

KEY_VARIABLE = "GROUNDUP_API_KEY"


class Server:
    """A model that is ready to be served. Its port is taken; clients connect after `run`."""

    def __init__(self, config: ServeConfig, folder: Path, port: socket.socket) -> None:
        from groundup.serve.app import make_app
        from groundup.serve.http_server import HttpServer, address
        from groundup.serve.security import Access
        from groundup.serve.served_model import ServedModel
        from groundup.serve.worker import Worker

        self.folder = folder
        """The folder of the model."""
        self.has_key = config.api_key is not None
        """Whether clients must send a key."""
        self._socket = port
        self.url = address(port)
        """The address of the server."""
        language_model = load(folder)
        language_model.model.to(choose_device(config.device)).eval()
        form = form_of(config.dtype, config.quantize)
        engine = text_engine(
            language_model,
            form=form,
            deterministic=config.deterministic,
            max_rows=config.max_rows,
        )
        self.served = ServedModel(
            name=model_name(folder),
            model=language_model,
            worker=Worker(engine),
            form=form,
            max_prompt_tokens=config.max_prompt_tokens,
            max_new_tokens=config.max_new_tokens,
            timeout_s=config.timeout_s,
        )
        access = Access(
            host=config.host, api_key=config.api_key, allowed_hosts=config.allowed_hosts
        )
        self._http = HttpServer(make_app(self.served, access), self.served)

    def run(self) -> None:
        """Answer requests until Ctrl-C, SIGTERM, or a call of `stop` from another thread.

        Raises:
            UserError: Another program listens on the port by now.
        """
        from groundup.serve.http_server import listen

        listen(self._socket)
        self.served.worker.start()
        try:
            self._http.run(sockets=[self._socket])
        finally:
            self.served.worker.drain(0)
            self._socket.close()

    def stop(self) -> None:
        """Let `run` return. Open answers end within two seconds."""
        self._http.should_exit = True


@takes_settings(ServeConfig, "run")
def open_server(config: ServeConfig) -> Server:
    """Load a model and take a port; `run` of the result answers requests.

    Raises:
        UserError: There is no model, the port is taken, a key is needed, or the packages of the
            extra `serve` are not installed.
    """
    for package in ("fastapi", "uvicorn"):
        needed(package, "serve", "groundup serve")
    from groundup.serve.http_server import bind
    from groundup.serve.security import Access

    config = replace(config, api_key=config.api_key or os.environ.get(KEY_VARIABLE) or None)
    folder = find_model(config.run)
    Access(host=config.host, api_key=config.api_key)  # before the model is loaded
    port = bind(config.host, config.port)
    try:
        return Server(config, folder, port)
    except BaseException:
        port.close()
        raise
