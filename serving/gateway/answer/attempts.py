"""The engines that one request meets, one after the other: asked, given up, and every slot given back.

Whatever is not of the client's making leads to the next one: no connection, a connection that breaks, an answer that is
none, and every status but those that say what is wrong with the request itself (400, 413, 422), which go to the client.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from serving.gateway.answer.failover import Failover
from serving.gateway.answer.settle import Settlement
from serving.gateway.context import RequestContext
from serving.gateway.engines.engine import Engine, Occupancy
from serving.gateway.engines.refusal import read_refusal
from serving.gateway.errors import (
    RETRY_AFTER,
    EngineFailed,
    EngineOverloaded,
    EngineTimeout,
    EngineUnavailable,
    GatewayError,
    NotFound,
    from_engine,
)
from serving.gateway.routing.prompt import Affinity
from serving.gateway.routing.route import Route
from serving.gateway.routing.router import Choice, Router
from serving.http.asgi import JSON
from serving.http.client import (
    ConnectTimeout,
    StallPolicy,
    UpstreamError,
    UpstreamResponse,
    UpstreamTimeout,
)

log = logging.getLogger(__name__)

MAX_ERROR_BODY_BYTES = 64 * 1024
_UNREACHABLE = "The engine that was asked could not be reached. Try again shortly."
# How often a stream that broke off looks for an engine to go on with it.
LOOK_AGAIN_S = 0.1


@dataclass(slots=True)
class EngineQuestion:
    """What an engine is asked: `body` is made for the engine that is chosen, after `prepare` has had a look at it."""

    target: bytes
    body: Callable[[Engine], bytes]
    prepare: Callable[[Engine], Awaitable[None]] | None = None
    may_go_to: Callable[[Engine], bool] | None = None


class Attempts:
    """One request's way through the engines; at any time at most one of them works for it."""

    def __init__(
        self,
        context: RequestContext,
        settlement: Settlement,
        router: Router,
        failover: Failover,
        route: Route | None,
        slots: int,
    ) -> None:
        """`slots`: how much of an engine's room the request takes."""
        self._context = context
        self._settlement = settlement
        self._router = router
        self._failover = failover
        self._route = route
        self._slots = slots
        self._affinity: Affinity | None = None
        self._release: Occupancy | None = None
        self._response: UpstreamResponse | None = None
        self._tried: list[Engine] = []
        self._num_failures = 0
        self._last_error: GatewayError | None = None

    async def ask(self, question: EngineQuestion) -> UpstreamResponse:
        """Send the question to the best engine, and to the next while one fails; returns the head of a 200 answer.

        Raises:
            GatewayError: the engine's refusal, or what the last engine that may be tried failed with.
        """
        while True:
            engine, uncached_chars, _ = self._choose(question)
            self._occupy(engine, uncached_chars)
            try:
                if question.prepare is not None:
                    await question.prepare(engine)
                sent_at = time.perf_counter()
                response = self._response = await engine.client.request(
                    b"POST",
                    question.target,
                    [*engine.headers, *self._headers()],
                    question.body(engine),
                    StallPolicy(self._failover.settings.stall_timeout_s, self._engine_is_down),
                )
                if response.status == 200:
                    engine.succeeded(time.perf_counter() - sent_at)
                    if self._release is not None:
                        self._release.prefill_done()
                    return response
                body = await response.read(MAX_ERROR_BODY_BYTES)
            except UpstreamError as error:
                self._give_up(str(error))
                self._retry_after(error)
            else:
                self._refused(engine, response, body, question)

    async def ask_until_answered(self, question: EngineQuestion, wait_s: float) -> UpstreamResponse:
        """As `ask`, for a stream that broke off: waits up to `wait_s` seconds for an engine that can be asked."""
        deadline = time.monotonic() + wait_s
        self._begin_anew()
        while True:
            try:
                return await self.ask(question)
            except EngineUnavailable:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(LOOK_AGAIN_S)
            # One that failed may be back, and is only chosen when it is.
            self._tried.clear()
            self._begin_anew()

    def answer_broke(self, reason: str) -> None:
        """The answer being read is no good: drop it.

        Raises:
            EngineFailed: it may not be asked again.
        """
        self._give_up(reason)
        self.begin_again(EngineFailed("The engine stopped before its answer was complete. Ask again."))

    def begin_again(self, error: GatewayError) -> None:
        """The engine was left before the client had any of its answer: the next may be asked, or `error` is raised."""
        self._context.answer.forget()
        self._allow_retry(error, costs=self._num_failures > 0)

    def has_other(self, may_go_to: Callable[[Engine], bool]) -> bool:
        """Whether another engine than the one that answers could be asked now."""
        unfit = [e for e in self._router.pool.engines if e is self._context.answer.engine or not may_go_to(e)]
        try:
            self._router.candidates(self._context.question.model, self._route, unfit)
        except EngineUnavailable:
            return False
        return True

    def cut(self, reason: str | None) -> None:
        """Leave the engine in the middle of a stream: it failed for `reason`, or (None) only hands over."""
        if reason is not None:
            self._give_up(reason)
        elif self._context.answer.engine is not None:
            self._tried = [self._context.answer.engine]
        self.close()

    @property
    def engine(self) -> Engine | None:
        """The engine whose slot is taken."""
        return self._context.answer.engine if self._release is not None else None

    def close(self, answer_complete: bool = False) -> None:
        """Give everything back: the connection (closing it stops an unfinished generation) and the engine's slot."""
        if self._response is not None:
            self._response.close(answer_complete)
        if self._release is not None:
            self._release()
        self._response = self._release = None

    def _engine_is_down(self) -> bool:
        return self._context.answer.engine is not None and not self._context.answer.engine.up

    def _begin_anew(self) -> None:
        self._num_failures = 0
        self._last_error = None

    def _choose(self, question: EngineQuestion) -> Choice:
        passed_over = self._tried
        if question.may_go_to is not None:
            unfit = [engine for engine in self._router.pool.engines if not question.may_go_to(engine)]
            passed_over = [*self._tried, *unfit]
        try:
            choice = self._router.choose(self._context, self._route, passed_over, self._affinity)
        except EngineUnavailable:
            if self._last_error is None:
                raise
            log.warning("no engine left", extra={"request_id": self._context.request_id})
            raise self._final(self._last_error) from None
        self._affinity = choice.affinity
        return choice

    def _occupy(self, engine: Engine, uncached_chars: int) -> None:
        self.close()
        self._release = engine.occupy(uncached_chars, self._slots)
        if self._context.answer.engine is None:
            self._settlement.routed()
            self._failover.budget.request()
        self._context.answer.engine = engine

    def _give_up(self, reason: str) -> None:
        engine = self._context.answer.engine
        assert engine is not None
        engine.failed(reason)
        self._tried.append(engine)
        self.close()

    def _refused(self, engine: Engine, response: UpstreamResponse, body: bytes, question: EngineQuestion) -> None:
        """Return when the next engine may be asked although this one refused; raise what the client did wrong."""
        refusal = read_refusal(response.status, response.header(b"retry-after"))
        error = from_engine(refusal.status, body, question.target.decode())
        engine.refused(refusal)
        if refusal.is_clients_fault:
            raise error
        if refusal.is_overload:
            error = EngineOverloaded("Every engine of this model takes no more for now. Try again later.")
        self._tried.append(engine)
        self.close()
        self._allow_retry(error, costs=refusal.costs_work)

    def _retry_after(self, failure: UpstreamError) -> None:
        """Return when the next engine may be asked although this one gave no answer."""
        if isinstance(failure, UpstreamTimeout) and not isinstance(failure, ConnectTimeout):
            error = EngineTimeout(f"No answer in time: {failure}.")
            if not self._failover.settings.retry_timeouts:
                raise error from None
            self._allow_retry(error, costs=True)
        else:
            # An engine that dies takes many requests with it, and each may be asked once more: no budget there.
            self._allow_retry(EngineUnavailable(_UNREACHABLE, headers=RETRY_AFTER), costs=False)

    def _allow_retry(self, error: GatewayError, costs: bool) -> None:
        """Return when the next engine may be asked; raise `error` otherwise."""
        self._num_failures += 1
        # That one engine does not have what is asked for says less than that another could not be asked.
        if self._last_error is None or not isinstance(error, NotFound):
            self._last_error = error
        if self._num_failures >= self._failover.settings.max_attempts:
            raise self._final(self._last_error) from None
        if costs and not self._failover.budget.withdraw():
            log.warning("no retry left in the budget", extra={"request_id": self._context.request_id})
            raise self._final(self._last_error) from None

    def _final(self, error: GatewayError) -> GatewayError:
        """What the client is told in the end, with the time after which an engine may be asked again."""
        if isinstance(error, EngineOverloaded):
            error.headers = self._router.retry_after(self._context.question.model)
        return error

    def _headers(self) -> list[tuple[bytes, bytes]]:
        headers = [JSON, (b"x-request-id", self._context.request_id.encode())]
        return headers + self._settlement.trace_headers()
