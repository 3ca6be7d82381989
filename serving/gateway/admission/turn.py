"""A request's permission to go to an engine, and the tokens that are counted on it."""

from __future__ import annotations

import time
from typing import Protocol

from serving.gateway.admission.counters import Account, TokenCounters
from serving.gateway.admission.lane import Lane, Presence, Ticket
from serving.gateway.admission.settings import AdmissionSettings
from serving.gateway.context import RequestContext
from serving.gateway.steps import CHARS_PER_TOKEN


class Owner(Protocol):
    """Who gave the turn, and is told what becomes of it."""

    settings: AdmissionSettings

    def first_token(self, context: RequestContext, ttft_s: float | None) -> None:
        """The answer has begun after `ttft_s`; None: it came in one piece."""

    def left(self, lane: Lane, model: str) -> None:
        """The turn is over."""


class Turn:
    """Held from when the request may go to an engine to its end; retries and continuations keep it.

    The prompt is counted when the turn begins, by its length in characters, and the answer as it is relayed; `leave`
    puts both right by what the engine reported.
    """

    __slots__ = ("_account", "_context", "_counters", "_input", "_is_over", "_lane", "_output", "_owner", "_since")

    def __init__(
        self,
        owner: Owner,
        context: RequestContext,
        lane: Lane,
        presence: Presence,
        counters: TokenCounters[Ticket],
        account: Account[Ticket],
    ) -> None:
        self._owner = owner
        self._context = context
        self._lane = lane
        self._counters = counters
        self._account = account
        self._input = context.prompt_chars // CHARS_PER_TOKEN
        self._output = 0
        self._is_over = False
        self._since = time.perf_counter()
        presence.num_running += context.places
        lane.num_running += context.places
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

    def leave(self) -> None:
        """Give the turn back; on every path, as often as you like."""
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
        lane = self._lane
        presence = lane.presences[self._account.tenant]
        presence.num_running -= context.places
        lane.num_running -= context.places
        lane.note_idle(presence, time.perf_counter())
        self._owner.left(lane, context.model)
