"""Errors in the form of OpenAI's API: a sentence, the parameter that it is about, and a code."""

import logging
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from groundup.base.arguments import shown
from groundup.base.errors import UserError
from groundup.serve.admission import Busy
from groundup.serve.failure import described
from groundup.serve.worker import UnavailableError

_log = logging.getLogger(__name__)
_LONGEST, _LONGEST_NAME = 400, 100
_CODES = {
    401: "invalid_api_key",
    403: "forbidden_origin",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    415: "unsupported_media_type",
    421: "unknown_host",
    429: "rate_limit_exceeded",
    500: "internal_error",
    503: "unavailable",
}


class ApiError(Exception):
    """An error that a client receives.

    Args:
        message: Whole sentences: what was found, then what is expected. A long one is cut.
        param: The parameter that it is about, such as "messages[0].role". None: no single one.
        status: The HTTP status.
        code: A word for programs. None: the one that is usual for the status.
        headers: Headers of the answer.
    """

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        status: int = 400,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        if len(message) > _LONGEST:
            message = message[: _LONGEST - 4] + " ..."
        self.message, self.param, self.status = message, param, status
        self.code = code or _CODES.get(status, "invalid_value")
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The error as OpenAI's clients read it."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        usual = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": self.message,
                "type": kinds.get(self.status, usual),
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> Response:
        """The error as an answer."""
        return json_response(self.body, self.status, self.headers)


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Make an answer of JSON."""
    return Response(
        orjson.dumps(content), status, dict(headers or {}), media_type="application/json"
    )


def of_user(error: UserError, param: str | None = None) -> ApiError:
    """Turn an error of the library into one for a client; paths of this machine are left out."""
    hint = f" On the server, type: {error.command}" if error.command else ""
    return ApiError(f"{error.message}{hint}", param=param)


def as_api_error(error: Exception) -> ApiError:
    """Turn any error into one for a client.

    The message of an unexpected one may quote a conversation: neither the client nor the log of the
    server gets it, only the place where it was raised.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Busy):
        headers = {"Retry-After": str(error.retry_after_s)}
        return ApiError(error.message, status=429, headers=headers)
    if isinstance(error, UnavailableError):
        return ApiError(str(error), status=503)
    if isinstance(error, UserError):
        return of_user(error)
    _log.error("A request failed: %s", described(error))
    return ApiError(
        f"The server failed ({described(error)}). This is a bug of the server.", status=500
    )


def add_error_handlers(app: FastAPI) -> None:
    """Let every error of the application have the form of OpenAI's API."""

    async def wrong_body(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return of_validation(error.errors()[0]).response()

    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        sentences = {
            404: f"There is no {shown(request.url.path)} on this server. See /openapi.json.",
            405: f"{request.method} is not allowed for {shown(request.url.path)}.",
            400: "The body is not valid JSON in UTF-8. A JSON object is expected.",
        }
        message = sentences.get(error.status_code, str(error.detail))
        found = ApiError(message, status=error.status_code, headers=error.headers)
        return found.response()

    async def of_others(request: Request, error: Exception) -> Response:
        return as_api_error(error).response()

    app.add_exception_handler(RequestValidationError, wrong_body)
    app.add_exception_handler(HTTPException, of_http)
    for kind in (ApiError, Busy, UnavailableError, UserError, Exception):
        app.add_exception_handler(kind, of_others)


def of_validation(problem: Mapping[str, Any]) -> ApiError:
    """Turn an entry of pydantic's list of errors into one for a client.

    >>> of_validation({"loc": ("body", "messages", 0, "role"), "type": "missing"}).message
    'messages[0].role is missing. It is required.'
    """
    param = _param(problem["loc"])
    kind, found = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        message = f"{param} is not a parameter of this server. Leave it out."
        return ApiError(message, param=param, code="unknown_parameter")
    if kind == "missing" and param is not None:
        message = f"{param} is missing. It is required."
        return ApiError(message, param=param, code="missing_required_parameter")
    if kind == "groundup":
        about = problem["ctx"]
        message = problem["msg"].replace("This parameter", str(param), 1)
        return ApiError(message, param=about["param"] or param, code=about["code"])
    if kind == "json_invalid":
        place = f"at character {problem['loc'][-1]}"
        return ApiError(f"The body is not valid JSON ({place}). A JSON object is expected.")
    if param is None:
        return ApiError("The body is not a JSON object. A JSON object is expected.")
    expected = problem["msg"].replace("Input should", "It should", 1).rstrip(".")
    shape = f" with {len(found)} entries" if isinstance(found, (list, dict)) else ""
    return ApiError(f"{param} is {shown(found)}{shape}. {expected}.", param=param)


def _param(location: tuple[Any, ...]) -> str | None:
    """Write the place of a value as clients write it: messages[0].role."""
    path = ""
    for part in location[1:]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")[:_LONGEST_NAME] or None
