"""`POST /v1/moderations`, as OpenAI's, from our classifiers.

The shape: https://platform.openai.com/docs/api-reference/moderations

Categories of OpenAI's that no classifier here scores are there, never flagged, and `category_applied_input_types` says
that they were applied to nothing. Ours beside theirs: `jailbreak`.
"""

# No `from __future__ import annotations` here: FastAPI could not resolve dependencies that are local functions.

import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from serving.gateway.api.access import principal
from serving.gateway.errors import BadRequest, ClassifierUnavailable, Forbidden, ModelNotFound
from serving.gateway.steps.inspect import Inspector
from serving.guard.classifiers import HATE, ILLICIT, JAILBREAK, THREAT, TOXICITY, Verdicts
from serving.identity import Principal

MODEL = "signet-guard"
ACCEPTED = (MODEL, "omni-moderation-latest", "text-moderation-latest", "text-moderation-stable")
MAX_INPUTS = 64
MAX_CHARS = 200_000
BUDGET_S = 10.0
"""Nobody waits for an engine here: a moderation may take longer than the look at a request."""

CLASSIFIERS = ("attack", "toxicity")
_SCORED = {
    "harassment": TOXICITY,
    "harassment/threatening": THREAT,
    "hate": HATE,
    "illicit": ILLICIT,
    "jailbreak": JAILBREAK,
}
CATEGORIES = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm"),
    *("self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic"),
    "jailbreak",
)


class TextPart(BaseModel):
    """A text of a question in parts."""

    type: Literal["text"]
    text: str


class ImageUrl(BaseModel):
    """Where a picture is."""

    url: str


class ImagePart(BaseModel):
    """A picture: taken as OpenAI's clients send it, and not looked at."""

    type: Literal["image_url"]
    image_url: ImageUrl


# A list of a hundred thousand wrong values is one error, not as many.
_Texts = Annotated[list[str], Field(fail_fast=True)]
_Parts = Annotated[list[TextPart | ImagePart], Field(fail_fast=True)]


class ModerationRequest(BaseModel):
    """Text to moderate."""

    input: str | _Texts | _Parts = Field(
        description=f"A text, up to {MAX_INPUTS} texts, or the parts of one; {MAX_CHARS:,} characters in all."
    )
    model: str = Field(default=MODEL, description=f"One of {', '.join(ACCEPTED)}: they are the same here.")


class Moderation(BaseModel):
    """What is said about one text."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]


class ModerationResponse(BaseModel):
    """One result for each text."""

    id: str
    model: str
    results: list[Moderation]
    unavailable: list[str] = Field(description="Classifiers that gave no answer, `perspective` for one.")


def moderation_routes(inspector: Callable[[], Inspector]) -> APIRouter:
    """The route; `inspector` tells the one in use, which a reload of the settings replaces."""
    router = APIRouter(tags=["inference"])

    @router.post("/v1/moderations", operation_id="moderations", response_model=ModerationResponse)
    async def moderate(request: ModerationRequest, who: Annotated[Principal, Depends(principal)]) -> Response:
        """Score texts for attacks and toxicity, as OpenAI's moderations."""
        if not who.may_use_endpoint("moderations"):
            raise Forbidden("This key may not be used for moderations.", code="endpoint_not_allowed")
        if request.model not in ACCEPTED:
            known = ", ".join(ACCEPTED)
            raise ModelNotFound(
                f"There is no moderation model {request.model[:200]!r}; known are {known}.", param="model"
            )
        texts = texts_of(request.input)
        used = inspector()
        verdicts = await used.pool.scores_of(texts, CLASSIFIERS, BUDGET_S)
        missing = sorted({name for verdict in verdicts for name in verdict.failed})
        if set(CLASSIFIERS) & set(missing):
            message = "The text could not be scored in time. Ask again."
            raise ClassifierUnavailable(message, headers=((b"retry-after", b"1"),))
        for verdict in verdicts:
            for category in sorted(verdict.flagged):
                used.metrics.flagged(category, "report")
        results = [_moderation(verdict) for verdict in verdicts]
        answer = ModerationResponse(id=f"modr-{uuid.uuid4().hex}", model=MODEL, results=results, unavailable=missing)
        # FastAPI would take 20 ms of the event loop to write it.
        return Response(answer.model_dump_json(), media_type="application/json")

    return router


def texts_of(value: str | list[Any]) -> list[str]:
    """The texts to score: parts are one text together.

    Raises:
        BadRequest: there is none, or too much.
    """
    if isinstance(value, str):
        texts = [value]
    elif value and all(isinstance(item, str) for item in value):
        texts = list(value)
    else:
        texts = ["\n".join(part.text for part in value if isinstance(part, TextPart))] if value else []
    if not texts:
        raise BadRequest("'input' holds no text.", param="input")
    if len(texts) > MAX_INPUTS:
        raise BadRequest(f"'input' has {len(texts)} texts; {MAX_INPUTS} is the most.", param="input")
    if sum(map(len, texts)) > MAX_CHARS:
        raise BadRequest(f"'input' has more than {MAX_CHARS} characters.", param="input")
    return texts


def _moderation(verdict: Verdicts) -> Moderation:
    scored = {name: ours for name, ours in _SCORED.items() if ours in verdict.scores}
    return Moderation(
        flagged=any(ours in verdict.flagged for ours in scored.values()),
        categories={name: scored.get(name) in verdict.flagged for name in CATEGORIES},
        category_scores={name: round(verdict.scores.get(scored.get(name, ""), 0.0), 6) for name in CATEGORIES},
        category_applied_input_types={name: ["text"] if name in scored else [] for name in CATEGORIES},
    )
