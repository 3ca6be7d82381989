"""Everything that is not hot, on FastAPI: the API's documentation, errors for unknown paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from serving import VERSION
from serving.gateway.api.openapi import describe_hot_paths
from serving.gateway.api.pages import add_pages
from serving.gateway.errors import BadRequest, GatewayError, MethodNotAllowed, NotFound
from serving.http.asgi import JSON


def build_rest(count_error: Callable[[str], None]) -> FastAPI:
    """The application behind the hot paths, still without routes.

    `count_error` is told the code of every error, on the event loop.
    """
    app = FastAPI(
        title="Signet",
        summary="Language models that can prove where an answer came from.",
        version=VERSION,
        # A redirect would name the host that the client wrote; there is one spelling of each path.
        redirect_slashes=False,
        # Their pages load scripts from elsewhere, where administrators paste keys.
        docs_url=None,
        redoc_url=None,
        # FastAPI's own route makes the document on the event loop.
        openapi_url=None,
    )

    async def gateway_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        count_error(error.code)
        return _answer(error)

    app.add_exception_handler(GatewayError, gateway_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    describe_hot_paths(app)
    add_pages(app)
    return app


def _answer(error: GatewayError) -> Response:
    headers = {name.decode(): value.decode() for name, value in (JSON, *error.headers)}
    return Response(error.body(), status_code=error.http_status, headers=headers)


def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    problem = problems[0]
    if problem["type"] == "json_invalid":
        return _answer(
            BadRequest(f"The body is not valid JSON: see character {problem['loc'][-1]}.", code="invalid_json")
        )
    if problem["type"] == "model_attributes_type" and problem["loc"] == ("body",):
        return _answer(BadRequest("The body must be a JSON object, sent with 'Content-Type: application/json'."))
    field = _field_of(problem, error.body)
    # A value that may be of several types has a problem with each.
    first, *others = [other["msg"] for other in problems if _field_of(other, error.body) == field]
    message = ", or ".join([first, *(other[:1].lower() + other[1:] for other in others)])
    return _answer(BadRequest(f"{field or 'The body'}: {message}.", param=field))


def _field_of(problem: Mapping[str, Any], body: Any) -> str | None:
    """Where the problem is in what the client sent. Pydantic also names the types it tried, behind the field."""
    place, *parts = problem["loc"]
    if place != "body":
        return ".".join(map(str, problem["loc"]))
    path: list[str] = []
    for part in parts:
        is_there = part in body if isinstance(body, dict) else isinstance(body, list) and isinstance(part, int)
        if not is_there and problem["type"] != "missing":
            break
        path.append(str(part))
        body = body[part] if is_there else None
    return ".".join(path) or None


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return _answer(MethodNotAllowed(f"{request.url.path} does not take {request.method}."))
    if error.status_code == 404:
        return _answer(NotFound(f"There is no {request.url.path[:200]!r} here; see /docs."))
    return _answer(BadRequest(str(error.detail), status=error.status_code))


def _unexpected(_: Request, __: Exception) -> Response:
    return _answer(GatewayError("The gateway failed on this request."))
