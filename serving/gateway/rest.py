"""Everything that is not hot, on FastAPI: detection of marks, the API's documentation, errors for unknown paths."""

# No `from __future__ import annotations` here: FastAPI could not resolve dependencies that are local functions.

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from serving.gateway.access import Access
from serving.gateway.errors import (
    BadRequest,
    Forbidden,
    GatewayError,
    MethodNotAllowed,
    ModelNotFound,
    NotFound,
)
from serving.gateway.openapi import describe_hot_paths
from serving.gateway.wire import JSON
from serving.identity import Identity, Principal
from serving.provenance import Detector, Keyring

MAX_DETECT_CHARS = 200_000


class DetectRequest(BaseModel):
    """A text of which to tell whether it carries a mark."""

    text: str = Field(min_length=1, max_length=MAX_DETECT_CHARS)
    model: str | None = Field(default=None, description="Whose tokenizer to read it with; default: the served model's.")


class KeyScore(BaseModel):
    """How one key fits the text: the sum over its tokens, and the p-value of this key alone."""

    key_id: str
    tenant: str
    score: float
    p_value: float


class DetectResponse(BaseModel):
    """`p_value` is corrected for the number of keys tried; key and tenant are given when the text is marked."""

    marked: bool
    p_value: float
    tokens_scored: int
    key_id: str | None
    tenant: str | None
    keys: list[KeyScore]


class Detectors:
    """A detector for each served model whose tokenizer is at hand, read when first needed.

    `folders` tells where the tokenizers lie now: a reload of the settings may bring others.
    """

    def __init__(self, folders: Callable[[], Mapping[str, Path]]) -> None:
        self._folders = folders
        self._loaded: dict[Path, Detector] = {}

    def get(self, model: str | None) -> Detector:
        """The named model's, or the only one.

        Raises:
            BadRequest: no model is named and there is more than one, or none has a tokenizer here.
            ModelNotFound: the named one has no tokenizer here.
        """
        folders = self._folders()
        if model is None:
            if len(folders) != 1:
                known = ", ".join(folders) or "none"
                raise BadRequest(f"Name the model in 'model'; tokenizers are here for: {known}.", param="model")
            model = next(iter(folders))
        if model not in folders:
            raise ModelNotFound(f"There is no tokenizer for {model[:200]!r} on this gateway.", param="model")
        folder = folders[model]
        if folder not in self._loaded:
            self._loaded[folder] = Detector(folder)
        return self._loaded[folder]


def build_rest(
    identity: Identity,
    keyring: Keyring | None,
    folders: Callable[[], Mapping[str, Path]],
    count_error: Callable[[str], None],
) -> FastAPI:
    """The application behind the hot paths. `count_error` is told the code of every error, on the event loop."""
    app = FastAPI(title="Signet", summary="Language models that can prove where an answer came from.", version="0.1.0")
    detectors = Detectors(folders)
    access = Access(identity)

    @app.post("/v1/provenance/detect", tags=["provenance"])
    def detect(request: DetectRequest, who: Annotated[Principal, Depends(access.principal)]) -> DetectResponse:
        """Tell whether a text carries a mark, and whose.

        A tenant's key tries the tenant's own mark; an admin's key tries all, since scores help to forge a mark.
        """
        if not who.may_use_endpoint("detect"):
            raise Forbidden("This key may not be used for detect.", code="endpoint_not_allowed")
        if keyring is None:
            raise BadRequest("This gateway has no keyring, so it cannot detect marks.", code="no_keyring")
        # A keyring on a read-only disk knows a tenant only once it was asked for its key.
        own = [keyring.mark_key(tenant) for tenant in (identity.tenants() if who.admin else [who.tenant])]
        keys = keyring.keys() if who.admin else own
        found = detectors.get(request.model).detect_text(request.text, keys)
        return DetectResponse(
            marked=found.marked,
            p_value=found.p_value,
            tokens_scored=found.tokens_scored,
            key_id=found.key_id,
            tenant=found.tenant,
            keys=[KeyScore(**asdict(score)) for score in found.per_key],
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
    return app


def _answer(error: GatewayError) -> Response:
    headers = {name.decode(): value.decode() for name, value in (JSON, *error.headers)}
    return Response(error.body(), status_code=error.http_status, headers=headers)


def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    field = ".".join(str(part) for part in problem["loc"] if part != "body") or None
    return _answer(BadRequest(f"{field or 'The body'}: {problem['msg']}.", param=field))


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return _answer(MethodNotAllowed(f"{request.url.path} does not take {request.method}."))
    if error.status_code == 404:
        return _answer(NotFound(f"There is no {request.url.path[:200]!r} here; see /docs."))
    return _answer(BadRequest(str(error.detail), status=error.status_code))


def _unexpected(_: Request, __: Exception) -> Response:
    return _answer(GatewayError("The gateway failed on this request."))
