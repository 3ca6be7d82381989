"""`POST /v1/provenance/detect`: whether texts are marked, and whose marks they carry."""

# No `from __future__ import annotations`: FastAPI could not resolve dependencies that are local values.

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from serving.gateway.api.access import principal
from serving.gateway.api.compute_process import ComputeProcess
from serving.gateway.errors import BadRequest, Forbidden, ModelNotFound
from serving.identity import Identity, Principal
from serving.provenance import DEFAULT_THRESHOLD, Detection, Detector, Keyring, MarkKey
from serving.provenance.adjustment import Adjustment, Subject
from serving.provenance.detection import ASSUMED_NATS, PLAIN, Sampling, Verdict
from serving.provenance.schemes import SCHEMES
from training.registry import Registry, RegistryError

MAX_CHARS = 200_000
MAX_TEXTS = 256
# Of the likeliest tokens in one place.
MAX_LISTED = 100
# Tokens x keys x schemes of one request: a few seconds of one core.
MAX_DRAWS = 40_000_000


Finite = Annotated[float, Field(allow_inf_nan=False)]
# A list of a hundred thousand wrong values is one error, not as many.
_Listed = Annotated[list[Finite], Field(max_length=MAX_LISTED, fail_fast=True)]


class DetectRequest(BaseModel):
    """One text or several of which to tell whether they carry a mark."""

    text: str | None = Field(default=None, min_length=1, max_length=MAX_CHARS)
    texts: list[str] | None = Field(
        default=None, min_length=1, max_length=MAX_TEXTS, description="In place of `text`: each gets a result."
    )
    model: str | None = Field(
        default=None,
        description="Whose tokenizer to read it with: a served model, or NAME[@VERSION] of the registry; "
        "default: the served model's.",
    )
    schemes: list[str] | None = Field(
        default=None,
        min_length=1,
        max_length=len(SCHEMES),
        description="Schemes to look for; default: all. The fewer, the stronger the test.",
    )
    spans: bool = Field(default=True, description="Whether to look for marked parts of the text.")
    threshold: float = Field(
        default=DEFAULT_THRESHOLD, gt=0, le=0.5, description="Corrected p-value below which a text is called marked."
    )
    logprobs: Annotated[list[Finite | None], Field(fail_fast=True)] | None = Field(
        default=None,
        description="Of `text`, for each of its tokens: natural logarithms of the model's probabilities, before "
        "temperature.",
    )
    top_logprobs: Annotated[list[_Listed | None], Field(fail_fast=True)] | None = Field(
        default=None, description="With `logprobs`: the same of the likeliest tokens in each place, twenty or so."
    )
    temperature: float | None = Field(
        default=None, ge=0, le=10, description="The answer's; needs `top_logprobs`. Without: 1."
    )
    top_k: int | None = Field(default=None, ge=0, description="The answer's; needs `top_logprobs`. Without: off.")
    top_p: float | None = Field(default=None, gt=0, le=1, description="The answer's; needs `top_logprobs`. Without: 1.")
    nats_per_token: float = Field(
        default=ASSUMED_NATS, gt=0, le=10, description="Entropy to predict the power with where logprobs are unknown."
    )
    tenant: str | None = Field(
        default=None, max_length=63, description="An administrator's: try this tenant's keys only."
    )


class KeyScore(BaseModel):
    """How one key fits the text: the sum over its tokens, and the p-value of this key and scheme alone."""

    key_id: str
    tenant: str
    score: float
    p_value: float
    scheme: str
    model: str | None
    revoked: bool
    calibrated: bool


class Span(BaseModel):
    """A marked part of the text, in characters and tokens; its p-value is corrected for everything searched."""

    start: int
    end: int
    first_token: int
    num_tokens: int
    p_value: float
    key_id: str
    tenant: str
    scheme: str
    model: str | None
    revoked: bool


class DetectResponse(BaseModel):
    """`p_value` is corrected for all that was tried; key, tenant, scheme and model are given when the text is marked.

    `verdict` is `cannot_tell` where even a marked text like this one might well not be found; `power` is the chance
    that it would be, by the first scheme tried, `powers` by each, at `power_temperature` (null: whatever made the text
    have `nats_per_token`).
    """

    marked: bool
    verdict: Verdict
    p_value: float
    threshold: float
    tokens_scored: int
    key_id: str | None
    tenant: str | None
    scheme: str | None
    model: str | None
    revoked: bool
    power: float
    powers: dict[str, float]
    power_temperature: float | None
    calibrated: bool
    weighted: bool
    spans: list[Span]
    keys_tried: int
    keys: list[KeyScore] = Field(description="The hundred that fit best, best first.")


class DetectResponses(BaseModel):
    """One result for each of `texts`, in their order."""

    results: list[DetectResponse]


class Tokenizers:
    """Where the tokenizer of each model lies.

    `folders` tells where the tokenizers of the served models lie now: a reload of the settings may bring others. Models
    that are not served are looked up in the registry under `home`, if it is on this disk.
    """

    def __init__(self, folders: Callable[[], Mapping[str, Path]], home: Path) -> None:
        self._folders = folders
        self._registry = Registry(home / "registry", home / "keys")

    def find(self, model: str | None) -> tuple[str, Path]:
        """The named model's, or the only one: the model's name and the folder.

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
        try:
            return model, folders.get(model) or self._registry.resolve(model).path
        except (RegistryError, OSError, ValueError):
            raise _no_tokenizer(model) from None


def _no_tokenizer(model: str) -> ModelNotFound:
    return ModelNotFound(f"There is no tokenizer for {model[:200]!r} on this gateway.", param="model")


def detection_routes(
    identity: Identity, keyring: Keyring | None, folders: Callable[[], Mapping[str, Path]], home: Path
) -> APIRouter:
    """The endpoint; `folders` and `home` as for `Tokenizers`."""
    router = APIRouter(tags=["provenance"])
    tokenizers = Tokenizers(folders, home)
    process = ComputeProcess()

    @router.post("/v1/provenance/detect", response_model=DetectResponse | DetectResponses)
    async def detect(request: DetectRequest, who: Annotated[Principal, Depends(principal)]) -> Response:
        """Tell whether a text carries a mark, which parts of it do, and whose.

        A tenant's key tries the tenant's own marks; an admin's key tries all, since scores help to forge a mark.
        """
        if not who.may_use_endpoint("detect"):
            raise Forbidden("This key may not be used for detect.", code="endpoint_not_allowed")
        if keyring is None:
            raise BadRequest("This gateway has no keyring, so it cannot detect marks.", code="no_keyring")
        _check(request)

        def look_up() -> tuple[str, Path, list[MarkKey]]:
            tenants = (
                (identity.tenants() if request.tenant is None else [request.tenant]) if who.admin else [who.tenant]
            )
            keys = keyring.keys_of(tenants, folders())
            if who.admin and request.tenant is None:
                # Tenants that are gone have marked answers too.
                keys = list({key.id: key for key in (*keys, *keyring.keys())}.values())
            return *tokenizers.find(request.model), list(keys)

        model, folder, keys = await to_thread.run_sync(look_up)
        try:
            answer = await process.run(_judge, request, folder, keys, dict(keyring.adjustments))
        except _TooLarge:
            raise BadRequest(
                f"{len(keys)} keys under {len(request.schemes or SCHEMES)} schemes are too many to try on this much "
                "text: name fewer schemes, or a tenant, or send less.",
                code="detection_too_large",
            ) from None
        except _Unreadable:
            raise _no_tokenizer(model) from None
        except ValueError as error:  # log-probabilities that do not fit the text, or each other
            raise BadRequest(f"logprobs: {error}.", param="logprobs") from None
        return Response(answer, media_type="application/json")

    return router


def _check(request: DetectRequest) -> None:
    """Raises BadRequest for what the types do not tell."""
    if (request.text is None) == (request.texts is None):
        raise BadRequest("Give either 'text' or 'texts'.", param="text")
    if request.texts is not None:
        if not all(request.texts) or sum(map(len, request.texts)) > MAX_CHARS:
            message = f"Each text needs a character, and all together may have {MAX_CHARS} at the most."
            raise BadRequest(message, param="texts")
        if request.logprobs is not None:
            raise BadRequest("Log-probabilities are of one text: give 'text'.", param="logprobs")
    if request.top_logprobs is not None and request.logprobs is None:
        raise BadRequest("'top_logprobs' are beside those of the text's own tokens: give 'logprobs'.", param="logprobs")
    for name in ("temperature", "top_k", "top_p"):
        if getattr(request, name) not in (None, getattr(PLAIN, name)) and request.top_logprobs is None:
            message = f"What '{name}' does to a text is known with 'top_logprobs' only; without, all holds for 1."
            raise BadRequest(message, param=name)
    unknown = [name for name in request.schemes or () if name not in SCHEMES]
    if unknown or len(set(request.schemes or ())) != len(request.schemes or ()):
        raise BadRequest(f"'schemes' takes each of these once: {', '.join(SCHEMES)}.", param="schemes")


class _TooLarge(Exception):
    """It would take more than some seconds."""


class _Unreadable(Exception):
    """The folder holds no tokenizer."""


_detectors: dict[Path, Detector] = {}
"""Of the process that detects: each is read when first needed."""


def _detector(folder: Path) -> Detector:
    if folder not in _detectors:
        try:
            _detectors[folder] = Detector(folder)
        except (OSError, ValueError):
            raise _Unreadable from None
    return _detectors[folder]


def _judge(
    request: DetectRequest, folder: Path, keys: Sequence[MarkKey], adjustments: Mapping[Subject, Adjustment]
) -> str:
    """Runs in a process of its own; the answer in JSON, which can be long.

    Raises:
        ValueError: log-probabilities that do not fit the text, or each other.
    """
    detector = _detector(folder)
    texts = [request.text] if request.text is not None else request.texts or []
    schemes = tuple(request.schemes or SCHEMES)
    num_draws = sum(len(detector.token_ids(text)) for text in texts) * len(keys) * len(schemes)
    if num_draws > MAX_DRAWS:
        raise _TooLarge
    results = [
        _response(
            detector.detect_text(
                text,
                keys,
                threshold=request.threshold,
                schemes=schemes,
                spans=request.spans,
                logprobs=request.logprobs,
                top_logprobs=request.top_logprobs,
                sampling=_sampling(request),
                nats_per_token=request.nats_per_token,
                adjustments=adjustments,
            ),
            request.threshold,
        )
        for text in texts
    ]
    answer = results[0] if request.texts is None else DetectResponses(results=results)
    return answer.model_dump_json()


def _sampling(request: DetectRequest) -> Sampling:
    temperature = PLAIN.temperature if request.temperature is None else request.temperature
    return Sampling(temperature, request.top_k or PLAIN.top_k, request.top_p or PLAIN.top_p)


def _response(detection: Detection, threshold: float) -> DetectResponse:
    fields = dataclasses.asdict(detection)
    return DetectResponse(keys=fields.pop("per_key"), threshold=threshold, **fields)
