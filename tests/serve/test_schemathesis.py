"""Generated requests, right and wrong ones: whatever is sent, the server does not fail."""

import json
from collections import Counter
from typing import Any

import pytest
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from peers import peer

from groundup.serve.inspect import page_router
from groundup.serve.serve import Server

schemathesis = peer("schemathesis", 4)


@pytest.mark.slow
def test_no_generated_request_makes_the_server_fail(server: Server) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    statuses = sent(server, schema, {"model": "tiny", "n": 2, "max_tokens": 2})
    for path in ("/v1/completions", "/v1/chat/completions"):
        assert statuses[path, 200] > 5
        assert statuses[path, 400] > 20
    assert server.served.worker.is_healthy


@pytest.mark.slow
def test_no_generated_request_of_the_page_makes_the_server_fail(server: Server) -> None:
    routes = [route for route in page_router(server.served).routes if isinstance(route, APIRoute)]
    for route in routes:
        route.include_in_schema = True  # the schema of the server has the API only
    content = get_openapi(title="page", version="1", routes=routes)
    schema = schemathesis.openapi.from_dict(content)
    statuses = sent(server, schema, {"max_new_tokens": 2})
    for path in ("/page/answer", "/page/look"):
        assert statuses[path, 400] > 20
    assert server.served.worker.is_healthy


def sent(server: Server, schema: Any, short: dict[str, Any]) -> Counter[tuple[str, int]]:
    """Send requests to all operations of a schema; `short` has fields that keep answers short."""
    statuses: Counter[tuple[str, int]] = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()
        # A request without a body cannot be a wrong one.
        for mode in list(schemathesis.GenerationMode)[: 1 if operation.method == "get" else 2]:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=30,
                derandomize=True,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            def check(case: Any) -> None:
                if isinstance(case.body, dict):
                    for name, value in short.items():
                        if isinstance(case.body.get(name, value), type(value)):
                            case.body[name] = value
                response = case.call(base_url=server.url)
                statuses[case.operation.path, response.status_code] += 1
                assert response.status_code < 500, response.text
                if response.status_code >= 400:
                    error = json.loads(response.content)["error"]
                    assert set(error) == {"message", "type", "param", "code"}

            check()
    return statuses
