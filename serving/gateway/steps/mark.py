"""Whether and how an answer is marked, and which engine can mark it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.gateway.context import RequestContext
from serving.gateway.engines.engine import Engine
from serving.gateway.engines.pool import EnginePool
from serving.gateway.errors import BadRequest, Forbidden
from serving.provenance import Keyring
from serving.provenance.schemes import DEFAULT_SCHEME, lefthash
from serving.provenance.schemes import SCHEMES as READABLE

SCHEMES = (*READABLE, lefthash.NAME)
# A green list changes which token is likeliest; the others decide where the model leaves a choice.
GREEDY_SCHEMES = frozenset({"kgw", lefthash.NAME})
# vLLM samples greedily below this temperature.
GREEDY_TEMPERATURE = 1e-5
# The likeliest token has a larger share than this in any vocabulary of less than a million.
GREEDY_TOP_P = 1e-6
_GREEDY_FIELDS = frozenset({"temperature", "top_k", "top_p", "min_p"})


def choose_mark(context: RequestContext, keyring: Keyring | None, pool: EnginePool) -> RequestContext:
    """Decide on the mark from the tenant's policy, the `X-Signet-Mark` header and what can be marked at all.

    A mark that was asked for and is impossible is refused; one that is only the tenant's default is left out,
    and the answer's header says why.

    Raises:
        BadRequest: an unknown scheme, or an answer that cannot be marked.
        Forbidden: the tenant may not choose.
    """
    mark = context.mark
    assert context.principal is not None
    allowed = context.principal.mark.allowed
    default = context.principal.mark.default
    usual = DEFAULT_SCHEME if default == "on" else default
    wanted = context.headers.get(b"x-signet-mark", b"").decode("latin-1").strip().lower()
    if wanted and wanted not in ("on", "off", *SCHEMES):
        choices = ", ".join(("on", "off", *SCHEMES))
        raise BadRequest(f"X-Signet-Mark must be one of {choices}.", code="unknown_mark", param="X-Signet-Mark")
    scheme = wanted or usual
    if scheme == "on":
        scheme = usual if usual != "off" else DEFAULT_SCHEME
    if wanted and not allowed and scheme != usual:
        raise Forbidden("This key may not choose whether or how answers are marked.", code="mark_not_allowed")
    if scheme == "off":
        return context
    obstacle = _mark_obstacle(context, keyring, scheme)
    if obstacle is None:
        assert keyring is not None
        mark.scheme = scheme
        # A name that no engine lists is anyone's: a key for each of them would fill the keyring.
        model = context.question.model if pool.lists(context.question.model) else None
        key = keyring.mark_key(context.principal.tenant, model)
        mark.key_id, mark.permit = key.id, key.permit(scheme)
        mark.required = bool(wanted)
        return context
    note, message = obstacle
    if wanted:
        raise BadRequest(message, code="mark_impossible", param="X-Signet-Mark")
    mark.note = note
    return context


def check_engines_mark(context: RequestContext, engine: Engine) -> None:
    """Where the chosen engine cannot mark the answer, say so in it, or refuse when the mark was asked for.

    Raises:
        BadRequest: the request itself asked for the mark.
    """
    mark = context.mark
    obstacle = engine_obstacle(context, engine)
    if obstacle is None:
        return
    note, why = obstacle
    if mark.required:
        raise BadRequest(f"This answer cannot be marked: {why}.", code="mark_impossible", param="X-Signet-Mark")
    mark.leave_out(note)


def engine_obstacle(context: RequestContext, engine: Engine) -> tuple[str, str] | None:
    """Why the engine cannot give the answer its mark, as the header's reason and in words; None: it can."""
    scheme = context.mark.scheme
    if scheme == "off":
        return None
    if scheme not in engine.schemes:
        return "engine", f"the engine makes no {scheme} marks"
    if engine.sampling and scheme not in GREEDY_SCHEMES and is_greedy({**engine.sampling, **context.question.body}):
        return "greedy", f"its model's own settings leave one token to choose from, so it carries no {scheme} mark"
    return None


def is_greedy(sampling: Mapping[str, Any]) -> bool:
    """Whether these parameters leave one token to choose from, whatever the model says."""
    return not _GREEDY_FIELDS.isdisjoint(sampling) and (
        _number(sampling.get("temperature"), 1) < GREEDY_TEMPERATURE
        or _number(sampling.get("top_k"), 0) == 1
        or _number(sampling.get("top_p"), 1) < GREEDY_TOP_P
        or _number(sampling.get("min_p"), 0) >= 1
    )


def _number(value: Any, default: float) -> float:
    """Where an operator lets others pass, a field that is not the endpoint's own may hold anything."""
    return value if type(value) in (int, float) else default


def _mark_obstacle(context: RequestContext, keyring: Keyring | None, scheme: str) -> tuple[str, str] | None:
    question = context.question
    if not context.endpoint.generates:
        return "endpoint", f"{context.endpoint.path} generates no text that could carry a mark."
    if keyring is None:
        return "no-keyring", "This gateway has no keyring, so no answer can be marked."
    if scheme not in GREEDY_SCHEMES and is_greedy(question.body):
        message = "An answer at temperature 0, or of the likeliest token alone, has one possible text"
        return "greedy", f"{message} and cannot carry a {scheme} mark; try kgw."
    allowed = question.body.get("allowed_token_ids")
    if isinstance(allowed, list) and len(allowed) == 1:
        return "greedy", "An answer of one token over and over cannot carry a mark."
    if question.body.get("use_beam_search"):
        return "beam-search", "Beam search picks no tokens at random and cannot carry a mark."
    return None
