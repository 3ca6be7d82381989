"""A request's permission to go to an engine, and the tokens that are counted on it."""

from __future__ import annotations

import time
from typing import Protocol

from serving.gateway.admission.counters import Account, TokenCounters
from serving.gateway.admission.demand import Demand
from serving.gateway.admission.fair_queue import Announcement, FairQueue, TenantState, Ticket
from serving.gateway.engines.engine import Engine
from serving.gateway.engines.seen import CHARS_PER_TOKEN
from serving.gateway.records import AnswerRecord
from serving.gateway.settings.admission import AdmissionSettings


class Owner(Protocol):
    """Who granted the permit, and is told what becomes of it."""

    settings: AdmissionSettings

    def first_token(self, engine: Engine, ttft_s: float | None) -> None:
        """The engine's answer has begun after `ttft_s`; None: it came in one piece."""

    def released(self, queue: FairQueue, model: str) -> None:
        """The permit was released."""


class Permit:
    """Held from when a call may go to an engine to its end; retries and continuations keep it.

    The prompt is counted at the start, by its length in characters, and the answer as it is relayed; `settle` corrects
    both by what the engine reported.
    """

    __slots__ = ("_account", "_counters", "_input", "_is_over", "_output", "_owner", "_queue", "_since", "demand")

    def __init__(
        self,
        owner: Owner,
        demand: Demand,
        queue: FairQueue,
        tenant_state: TenantState,
        counters: TokenCounters[Ticket],
        account: Account[Ticket],
    ) -> None:
        self.demand = demand
        self._owner = owner
        self._queue = queue
        self._counters = counters
        self._account = account
        self._input = demand.prompt_chars // CHARS_PER_TOKEN
        self._output = 0
        self._is_over = False
        self._since = time.perf_counter()
        tenant_state.num_running += demand.slots
        queue.num_running += demand.slots
        counters.begin(account, self._input * owner.settings.input_weight)

    def relayed(self, num_tokens: int, engine: Engine) -> None:
        """So many tokens of the answer have been relayed by now, in all."""
        new = num_tokens - self._output
        if new > 0:
            if not self._output:
                self._owner.first_token(engine, time.perf_counter() - self._since)
            self._output = num_tokens
            self._counters.charge(self._account, new * self._owner.settings.output_weight)

    def settle(self, prompt_tokens: int, completion_tokens: int, engine: Engine | None) -> None:
        """Put the count right: the engine has reported its own."""
        if not self._output and completion_tokens and engine is not None:
            self._owner.first_token(engine, None)
        settings = self._owner.settings
        missing_input, missing_output = prompt_tokens - self._input, completion_tokens - self._output
        self._counters.charge(
            self._account, missing_input * settings.input_weight + missing_output * settings.output_weight
        )
        self._input, self._output = prompt_tokens, completion_tokens

    def charge(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Count these too: what else was done in the place of the request."""
        settings = self._owner.settings
        self._counters.charge(
            self._account, prompt_tokens * settings.input_weight + completion_tokens * settings.output_weight
        )

    def release(self) -> None:
        """End the permit; to be called on every path, calling it again does nothing."""
        if self._is_over:
            return
        self._is_over = True
        self._counters.end(self._account)
        queue, slots = self._queue, self.demand.slots
        tenant_state = queue.tenants[self._account.tenant]
        tenant_state.num_running -= slots
        queue.num_running -= slots
        queue.note_idle(tenant_state, time.perf_counter())
        self._owner.released(queue, self.demand.model)


class Entry:
    """One request on its way through admission: announced while it is made ready, then under its permit.

    `permit` is None until the request may go, and where nothing is queued.
    """

    __slots__ = ("announcement", "demand", "permit")

    def __init__(self, demand: Demand, announcement: Announcement | None = None) -> None:
        self.demand = demand
        self.permit: Permit | None = None
        self.announcement = announcement

    def end(self, answer: AnswerRecord) -> None:
        """End it, on every path; what the engine has counted by now counts in the tenant's share."""
        if self.announcement is not None:
            self.announcement.withdraw()
        if self.permit is not None:
            if answer.usage_reported or answer.completion_tokens:
                self.permit.settle(answer.prompt_tokens, answer.completion_tokens, answer.engine)
            self.permit.release()
