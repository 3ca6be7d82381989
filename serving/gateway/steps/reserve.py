"""The admit step's first half: reserve what a request may need of its key's and tenant's limits and budgets.

Budgets need a true upper bound of what an answer can cost, so under one the answer's length is always bounded: by what
the client asked for, by the model's window, or by a `max_tokens` that is put into the request here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from serving.gateway.body import encode
from serving.gateway.context import RequestContext
from serving.gateway.engines.pool import EnginePool
from serving.gateway.engines.seen import CHARS_PER_TOKEN
from serving.gateway.errors import BadRequest, BudgetExhausted, GatewayError, LedgerDown, LimitExceeded
from serving.gateway.records import Media
from serving.gateway.steps.media import media_of
from serving.http.asgi import encode_headers
from serving.identity import Amount, Lease, Limiter, Principal, Refusal, SpendingUnknown
from serving.ledger import PriceList

ASSUMED_ANSWER_TOKENS = 256
# What OpenAI and vLLM take when a completion names no length.
COMPLETION_DEFAULT_TOKENS = 16
# An answer that a budget's end would cut shorter than this is refused instead.
SHORTEST_ANSWER_TOKENS = 16
# A chat template's own words: a default system message, how tools are called. JSON's characters pay for the rest.
_TEMPLATE_TOKENS = 256
# Below this size a body is not looked through for the sake of an estimate.
_SMALL_BODY_BYTES = 4096
# What models take for a picture of usual size; in an estimate, for any part that is no text.
_MEDIA_TOKENS = 1024
_LENGTH_FIELDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that a request can use; `answer_tokens` is of each choice."""

    prompt_tokens: int
    answer_tokens: int
    fixed: bool
    """The answer may not be shortened: the client named its length, or there is none."""
    enforced: bool
    """The engine keeps to it by itself."""


class Reserver:
    """Reserves for requests, in this process where that is possible."""

    def __init__(self, limiter: Limiter, prices: PriceList, pool: EnginePool) -> None:
        self._limiter = limiter
        self._prices = prices
        self._pool = pool

    async def reserve(self, context: RequestContext) -> None:
        """Fill in `context.lease`. Waits only for a shared store or the ledger.

        Raises:
            LimitExceeded, BudgetExhausted: with `Retry-After` and the `x-ratelimit-*` headers.
            BadRequest: it can never fit a limit; under a budget, a length that is no number, or media whose cost
                nobody can bound.
            LedgerDown: nobody knows what was spent of a budget.
        """
        assert context.principal is not None
        bound = self._bound(context) if context.principal.budgets else None
        amount = self._amount(context, bound)
        try:
            lease = context.lease = await _acquire(self._limiter, context.principal, amount)
        except SpendingUnknown:
            raise LedgerDown("What is left of this key's budget cannot be looked up now. Try again later.") from None
        if bound is not None and lease.granted:
            self._cap(context, lease.granted, amount, bound)

    def _amount(self, context: RequestContext, bound: Bound | None) -> Amount:
        question = context.question
        body = question.body
        answer: Any = None if context.endpoint.length_fields else 0
        for name in context.endpoint.length_fields:
            answer = answer or body.get(name)
        if type(answer) is not int or answer < 0:
            answer = ASSUMED_ANSWER_TOKENS
        prompt = len(context.raw_body) // CHARS_PER_TOKEN
        if prompt > _SMALL_BODY_BYTES // CHARS_PER_TOKEN or answer > _SMALL_BODY_BYTES:
            prompt, answer = self._likely(context, prompt, answer)
        tokens = prompt + answer * question.sequences
        if bound is None:
            return Amount(tokens, sequences=question.sequences)
        cost = self._prices.cost
        most = cost(question.model, bound.prompt_tokens, bound.answer_tokens * question.sequences)
        shortest = min(bound.answer_tokens, SHORTEST_ANSWER_TOKENS) * question.sequences
        least = most if bound.fixed else cost(question.model, bound.prompt_tokens, shortest)
        return Amount(tokens, most, least, question.sequences)

    def _likely(self, context: RequestContext, prompt: int, answer: int) -> tuple[int, int]:
        """The estimate of a large request: media are not counted as text, and no model reads more than its window."""
        media = _media(context)
        prompt = max(0, prompt - media.chars // CHARS_PER_TOKEN) + media.parts * _MEDIA_TOKENS
        window = self._window(context.question.model)
        if window is None:
            return prompt, answer
        if context.endpoint.name != "embeddings":
            prompt = min(prompt, window * _num_prompts(context))
        return prompt, min(answer, window)

    def _bound(self, context: RequestContext) -> Bound:
        question = context.question
        window = self._window(question.model)
        if _media(context).parts:
            prompt = self._bound_of_media(context, window)
        else:
            # A token is at least one byte of text, so the body's length bounds the prompt's: of the body as it is
            # now, with a prompt template's words in it.
            prompt = len(encode(question.body)) + _TEMPLATE_TOKENS
            if window is not None and context.endpoint.name != "embeddings":
                prompt = min(prompt, window * _num_prompts(context))
        if not context.endpoint.generates:
            return Bound(prompt, 0, fixed=True, enforced=True)
        named = _named_length(question.body)
        if named:
            return Bound(prompt, named if window is None else min(named, window), fixed=True, enforced=True)
        if context.endpoint.name == "completions" and "max_tokens" not in question.body:
            return Bound(prompt, COMPLETION_DEFAULT_TOKENS, fixed=True, enforced=False)
        most = self._limiter.answer_tokens
        if window is not None and prompt + most > window:
            # Put into the request, the length could be more than the window has left, which engines refuse.
            return Bound(prompt, window, fixed=False, enforced=True)
        return Bound(prompt, most, fixed=False, enforced=False)

    def _bound_of_media(self, context: RequestContext, window: int | None) -> int:
        """What media take at the most: all that the model can read."""
        if window is None:
            raise BadRequest(
                "Pictures, sound and files cannot be sent under a budget here: what they cost at the most is not "
                "known, as no engine tells the model's context length.",
                code="cost_unknown",
            )
        return window

    def _window(self, model: str) -> int | None:
        """Tokens that prompt and answer may have together, the largest of all engines; None: one does not say."""
        engines = [engine for engine in self._pool.engines if model in engine.cards or engine.serves(model)]
        windows = [engine.cards.get(model, {}).get("max_model_len") for engine in engines]
        known = [window for window in windows if type(window) is int and window > 0]
        return max(known) if known and len(known) == len(windows) else None

    def _cap(self, context: RequestContext, granted: int, amount: Amount, bound: Bound) -> None:
        """Keep the answer within what was reserved for it."""
        question = context.question
        if granted >= amount.nanos and bound.enforced:
            return
        length = bound.answer_tokens
        per_million = self._prices.cost(question.model, 0, _MILLION)
        if granted < amount.nanos and per_million:
            left = granted - self._prices.cost(question.model, bound.prompt_tokens, 0)
            length = min(length, max(1, left * _MILLION // (per_million * question.sequences)))
        for name in _LENGTH_FIELDS:
            question.body.pop(name, None)
        question.body[context.endpoint.length_fields[-1]] = length


def _named_length(body: dict[str, Any]) -> int:
    """The longest answer that the request names; 0: none.

    Raises:
        BadRequest: not a whole number; an engine might still read it as one.
    """
    longest = 0
    for name in _LENGTH_FIELDS:
        value = body.get(name)
        if value is None:
            continue
        if type(value) is not int or value < 0:
            raise BadRequest(f"'{name}' must be a whole number.", param=name)
        longest = max(longest, value)
    return longest


async def reserve_local_work(limiter: Limiter, holder: Principal, num_bytes: int) -> Lease:
    """A request that no engine sees: one of its key's and tenant's requests, and its bytes in tokens.

    Raises:
        LimitExceeded: with `Retry-After` and the `x-ratelimit-*` headers.
        BadRequest: it can never fit a limit.
    """
    return await _acquire(limiter, holder, Amount(num_bytes // CHARS_PER_TOKEN))


async def _acquire(limiter: Limiter, holder: Principal, amount: Amount) -> Lease:
    decision = limiter.acquire_nowait(holder, amount)
    if decision is None:
        decision = await limiter.acquire(holder, amount)
    if isinstance(decision, Refusal):
        raise refused(decision)
    return decision


def _media(context: RequestContext) -> Media:
    """Of the question, looked through once."""
    question = context.question
    if question.media is None:
        question.media = media_of(question.body)
    return question.media


def _num_prompts(context: RequestContext) -> int:
    question = context.question
    answers_each = question.body.get("n")
    return question.choices // answers_each if type(answers_each) is int else question.choices


def refused(refusal: Refusal) -> GatewayError:
    """The limiter's refusal as the client is told it."""
    if refusal.code == "insufficient_quota":
        # OpenAI's clients would retry any 429 by themselves; this one does not pass by waiting.
        headers = encode_headers((("x-should-retry", "false"), *refusal.headers))
        return BudgetExhausted(refusal.message, headers=headers)
    if refusal.retry_after_s is None:
        # A 429 would be asked again for ever.
        return BadRequest(refusal.message, code=refusal.code, headers=encode_headers(refusal.headers))
    wait = ("retry-after", str(math.ceil(refusal.retry_after_s)))
    return LimitExceeded(refusal.message, code=refusal.code, headers=encode_headers((wait, *refusal.headers)))
