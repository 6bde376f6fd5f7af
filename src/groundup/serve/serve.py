"""Serve a model over HTTP: load it, plan, take a port, and answer until Ctrl-C."""

import os
import socket
import threading
from dataclasses import replace
from pathlib import Path

from groundup.base.calling import takes_settings
from groundup.base.device import choose_device
from groundup.base.errors import UserError
from groundup.base.extras import needed
from groundup.evaluation.decoders import form_of
from groundup.evaluation.load import load
from groundup.evaluation.text_generation import text_engine
from groundup.serve.admission import Admission, Limits
from groundup.serve.config import ServeConfig
from groundup.serve.find_model import find_model, model_name
from groundup.serve.load_test import Load, LoadTest, load_test, random_prompts
from groundup.serve.plan import Plan, cache_limit_bytes, make_plan
from groundup.serve.sse_client import RefusedError

KEY_VARIABLE = "GROUNDUP_API_KEY"


class Server:
    """A model that is ready to be served. Its port is taken; clients connect after `run`."""

    def __init__(self, config: ServeConfig, folder: Path, port: socket.socket) -> None:
        from groundup.serve.app import make_app
        from groundup.serve.http_cost import token_cost_s
        from groundup.serve.http_server import HttpServer, address
        from groundup.serve.security import Access
        from groundup.serve.served_model import ServedModel
        from groundup.serve.worker import Worker

        self.folder = folder
        """The folder of the model."""
        self.api_key = config.api_key
        """The key that clients must send. None: no key."""
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
        if config.cache_gb is None:
            engine.max_cache_bytes = cache_limit_bytes(engine)
        else:
            engine.max_cache_bytes = int(config.cache_gb * 1e9)
        plan = make_plan(engine)
        limits = Limits(
            prompt_tokens=config.max_prompt_tokens,
            answer_tokens=config.max_new_tokens,
            time_s=config.timeout_s,
        )
        self.served = ServedModel(
            name=model_name(folder),
            model=language_model,
            worker=Worker(engine, admission=Admission(limits)),
            form=form,
            max_prompt_tokens=config.max_prompt_tokens,
            max_new_tokens=config.max_new_tokens,
        )
        _ = self.served.fingerprint  # while the files are those that were read
        access = Access(
            host=config.host, api_key=config.api_key, allowed_hosts=config.allowed_hosts
        )
        app = make_app(self.served, access)
        self.served.worker.start()
        try:
            token_s = token_cost_s(
                app,
                self.served.name,
                self.served.worker,
                api_key=config.api_key,
                max_new_tokens=config.max_new_tokens,
            )
            self.served.worker.reset_counts()
            self.plan: Plan = replace(plan, token_s=token_s)
            """What the server will do, measured."""
            # Each client of a test may still be closing its last connection.
            least = 2 * (config.try_clients or 0)
            self._http = HttpServer(app, self.served, least_connections=least)
        except BaseException:
            self.served.worker.stop(0)
            raise

    def run(self) -> None:
        """Answer requests until Ctrl-C, SIGTERM, or a call of `stop` from another thread.

        Raises:
            UserError: Another program listens on the port by now.
        """
        from groundup.serve.http_server import listen

        listen(self._socket)
        try:
            self._http.run(sockets=[self._socket])
        finally:
            self.close()

    def close(self) -> None:
        """Give the port back, and end the worker."""
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
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        needed(package, "serve", "groundup serve")
    from groundup.serve.http_server import bind
    from groundup.serve.security import Access

    key = config.api_key or os.environ.get(KEY_VARIABLE) or None
    config = replace(config, api_key=key)
    if config.try_clients is not None:  # a server may be running already
        config = replace(config, host="127.0.0.1", port=0)
    folder = find_model(config.run)
    Access(host=config.host, api_key=config.api_key)  # before the model is loaded
    port = bind(config.host, config.port)
    try:
        return Server(config, folder, port)
    except BaseException:
        port.close()
        raise


def try_server(server: Server, n_clients: int) -> LoadTest:
    """Run a server, test it with many clients at once, and stop it.

    Args:
        server: The server. It is not running.
        n_clients: Number of clients.

    Raises:
        UserError: The server cannot listen, or it refuses requests.
    """
    served = server.served
    longest = max(1, min(64, served.context_length // 4))
    longest_prompt = min(longest, served.max_prompt_tokens or longest)
    prompts = random_prompts(
        8, served.tokenizer.vocab_size, shortest=min(8, longest_prompt), longest=longest_prompt
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        n_new = min(longest, served.max_new_tokens or longest)
        load = Load(n_clients=n_clients, n_new=n_new)
        return load_test(server.url, served.name, prompts, load, api_key=server.api_key)
    except RefusedError as error:
        raise UserError(f"The server refuses a request of the test: {error.message}") from error
    finally:
        server.stop()
        thread.join()
