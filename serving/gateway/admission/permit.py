"""A request's permission to go to an engine, and the tokens that are counted on it."""

from __future__ import annotations

import time
from typing import Protocol

from serving.gateway.admission.counters import Account, TokenCounters
from serving.gateway.admission.fair_queue import FairQueue, TenantState, Ticket
from serving.gateway.admission.settings import AdmissionSettings
from serving.gateway.context import RequestContext
from serving.gateway.engines.seen import CHARS_PER_TOKEN


class Owner(Protocol):
    """Who granted the permit, and is told what becomes of it."""

    settings: AdmissionSettings

    def first_token(self, context: RequestContext, ttft_s: float | None) -> None:
        """The answer has begun after `ttft_s`; None: it came in one piece."""

    def released(self, queue: FairQueue, model: str) -> None:
        """The permit was released."""


class Permit:
    """Held from when the request may go to an engine to its end; retries and continuations keep it.

    The prompt is counted at the start, by its length in characters, and the answer as it is relayed; `release`
    corrects both by what the engine reported.
    """

    __slots__ = ("_account", "_context", "_counters", "_input", "_is_over", "_output", "_owner", "_queue", "_since")

    def __init__(
        self,
        owner: Owner,
        context: RequestContext,
        queue: FairQueue,
        tenant_state: TenantState,
        counters: TokenCounters[Ticket],
        account: Account[Ticket],
    ) -> None:
        self._owner = owner
        self._context = context
        self._queue = queue
        self._counters = counters
        self._account = account
        self._input = context.prompt_chars // CHARS_PER_TOKEN
        self._output = 0
        self._is_over = False
        self._since = time.perf_counter()
        tenant_state.num_running += context.slots
        queue.num_running += context.slots
        counters.begin(account, self._input * owner.settings.input_weight)

    def charge(self, num_tokens: int) -> None:
        """Count this many tokens more of the answer."""
        if not self._output:
            self._owner.first_token(self._context, time.perf_counter() - self._since)
        self._output += num_tokens
        self._counters.charge(self._account, num_tokens * self._owner.settings.output_weight)

    def relayed(self, num_tokens: int) -> None:
        """So many tokens of the answer have been relayed by now, in all."""
        if num_tokens > self._output:
            self.charge(num_tokens - self._output)

    def release(self) -> None:
        """End the permit; to be called on every path, calling it again does nothing."""
        if self._is_over:
            return
        self._is_over = True
        context, settings = self._context, self._owner.settings
        if context.usage_reported or context.completion_tokens:
            if not self._output and context.completion_tokens:
                self._owner.first_token(context, None)
            missing_input = context.prompt_tokens - self._input
            missing_output = context.completion_tokens - self._output
            correction = missing_input * settings.input_weight + missing_output * settings.output_weight
            self._counters.charge(self._account, correction)
        self._counters.end(self._account)
        queue = self._queue
        tenant_state = queue.tenants[self._account.tenant]
        tenant_state.num_running -= context.slots
        queue.num_running -= context.slots
        queue.note_idle(tenant_state, time.perf_counter())
        self._owner.released(queue, context.model)
