"""The HTTP application: the routes of OpenAI's API, health, metrics and the page."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp

from groundup import __version__
from groundup.serve.errors import add_error_handlers, json_response
from groundup.serve.inspect import page_router
from groundup.serve.metrics import CONTENT_TYPE, metrics_text
from groundup.serve.prompts import check_model
from groundup.serve.requests import ChatForm, CompletionForm
from groundup.serve.respond import Answer
from groundup.serve.security import Access, Security
from groundup.serve.served_model import ServedModel

_ERROR = {
    "description": "An error: a sentence, the parameter that it is about, and a code.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {
                    "error": {
                        "type": "object",
                        "required": ["message", "type", "param", "code"],
                        "properties": {
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                            "param": {"type": ["string", "null"]},
                            "code": {"type": ["string", "null"]},
                        },
                    }
                },
            }
        }
    },
}
_ERRORS: dict[int | str, dict[str, Any]] = {"4XX": _ERROR, "503": _ERROR}


def make_app(served: ServedModel, access: Access | None = None) -> ASGIApp:
    """Make the application of a model, behind the checks of every request.

    Args:
        served: The model. Its worker has been started.
        access: Who may use it. None: this machine.
    """
    app = FastAPI(
        title="groundup",
        version=__version__,
        docs_url=None,  # these pages load scripts from other sites
        redoc_url=None,
        redirect_slashes=False,
    )
    add_error_handlers(app)
    # Every router is included here; Security covers all of them.
    app.include_router(_api(served))
    app.include_router(_status(served))
    app.include_router(page_router(served))
    return Security(app, access or Access())


def _api(served: ServedModel) -> APIRouter:
    """The routes of OpenAI's API."""
    router = APIRouter(prefix="/v1", responses=_ERRORS)

    def about() -> dict[str, Any]:
        return {
            "id": served.name,
            "object": "model",
            "created": served.created_s,
            "owned_by": "groundup",
            "context_length": served.context_length,
            "weights_sha256": served.weights_sha256,
            "system_fingerprint": served.fingerprint,
        }

    @router.get("/models")
    async def list_models() -> Response:
        """List the model."""
        return json_response({"object": "list", "data": [about()]})

    @router.get("/models/{name:path}")
    async def retrieve_model(name: str) -> Response:
        """Describe the model."""
        check_model(name, served)
        return json_response(about())

    @router.post("/completions")
    async def complete(form: Annotated[CompletionForm, Body()]) -> Response:
        """Continue a text."""
        return Answer(form, served)

    @router.post("/chat/completions")
    async def chat(form: Annotated[ChatForm, Body()]) -> Response:
        """Answer in a conversation."""
        return Answer(form, served)

    return router


def _status(served: ServedModel) -> APIRouter:
    """Whether the server works, and what it does."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> Response:
        """Say whether requests are taken."""
        if not served.worker.is_healthy:
            return json_response({"status": "unavailable"}, 503)
        return json_response({"status": "ok", "model": served.name})

    @router.get("/metrics")
    async def metrics() -> Response:
        """Count what the server does, in the text format of Prometheus."""
        return Response(metrics_text(served.worker), media_type=CONTENT_TYPE)

    return router
