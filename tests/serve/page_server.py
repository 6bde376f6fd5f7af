"""A server of the page alone, in a thread, for tests."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from groundup.base.errors import UserError
from groundup.chat.open_cast import cast_of
from groundup.evaluation.load import load
from groundup.evaluation.text_generation import text_engine
from groundup.serve.inspect import Page, page_router
from groundup.serve.worker import Worker


def page_of(path: Path, worker: Worker | None = None) -> tuple[Page, Worker]:
    model = load(path)
    worker = worker or Worker(text_engine(model))
    page = Page(model, worker.engine.decoder, worker.generate, name=path.name, cast=cast_of(path))
    return page, worker


def app_of(page: Page) -> FastAPI:
    app = FastAPI()
    app.include_router(page_router(page))

    async def refuse(request: Any, error: Exception) -> JSONResponse:
        return JSONResponse({"error": {"message": str(error)}}, 400)

    for kind in (UserError, RequestValidationError):
        app.add_exception_handler(kind, refuse)
    return app


@contextmanager
def serving(app: FastAPI, worker: Worker, port: int = 0) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    worker.start()
    thread = threading.Thread(target=asyncio.run, args=(server.serve(),), daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        worker.stop(0)
