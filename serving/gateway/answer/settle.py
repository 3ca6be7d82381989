"""Settle a request exactly once: usage into the ledger, tokens against the limits, numbers to telemetry."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from monitoring.telemetry import GatewayMetrics, RequestTrace, Tracing
from serving.gateway.context import RequestContext
from serving.gateway.endpoints.texts import FILTERED
from serving.gateway.engines.seen import CHARS_PER_TOKEN
from serving.gateway.errors import GatewayError
from serving.gateway.steps.receipt import record_receipt
from serving.guard import GuardReport
from serving.guard.answer.refusal import looks_like_refusal
from serving.ledger import Ledger, LedgerUnavailable, PriceList, UsageRecord
from serving.provenance.receipts import ReceiptIssuer

log = logging.getLogger(__name__)

CLIENT_CLOSED_REQUEST = 499


def count_by_length(context: RequestContext, *, is_whole: bool) -> None:
    """Complete what the engine has counted by the length of what it has not, as the reservation was made.

    An answer that was cut short may have a count from its beginning, or none; a whole one may have a count of zero.
    """
    question = context.question
    answer = context.answer
    if answer.engine is None:
        return
    if not answer.is_counted:
        by_length = _tokens(answer.chars)
        counted = answer.completion_tokens
        since = _tokens(answer.chars - answer.counted_chars) if counted else by_length
        # While they run, engines report the choices of one answer each by itself.
        answer.completion_tokens = counted + since if question.choices == 1 else max(counted + since, by_length)
    elif question.choices > 1 and not is_whole:
        answer.completion_tokens = max(answer.completion_tokens, _tokens(answer.chars))
    if not answer.prompt_tokens and context.endpoint.is_billed and (is_whole or answer.chars):
        answer.prompt_tokens = _tokens(question.prompt_chars)


def _tokens(num_chars: int) -> int:
    return -(-num_chars // CHARS_PER_TOKEN)


class Settlement:
    """The end of one request. `commit`, `fail` or `abandon` takes effect once; the first one wins."""

    def __init__(
        self,
        context: RequestContext,
        ledger: Ledger,
        metrics: GatewayMetrics,
        tracing: Tracing,
        prices: PriceList,
        receipts: ReceiptIssuer | None = None,
    ) -> None:
        self._context = context
        self._ledger = ledger
        self._metrics = metrics
        self._tracing = tracing
        self._prices = prices
        self._receipts = receipts
        self._settled = False
        self._trace: RequestTrace | None = None
        self._trace_id = ""
        self._num_text_events = 0
        self._last_text_at = 0.0
        metrics.request_started()

    def start_trace(self) -> None:
        """The request has been read, and is traced from now on."""
        self._trace = self._tracing.start_request(self._context)
        self._trace_id = self._trace.kept_id if self._trace is not None else ""

    def trace_headers(self) -> list[tuple[bytes, bytes]]:
        """The trace's context for the engine that is asked now."""
        return self._tracing.outgoing_headers(self._context, self._trace)

    def routed(self) -> None:
        """An engine gets the request now."""
        self._metrics.queue(time.perf_counter() - self._context.started, self._trace_id)

    def note_text_events(self, num_text_events: int = 1) -> None:
        """Text has come from the engine; several events at once share the time since the last."""
        question = self._context.question
        new = num_text_events - self._num_text_events
        if new <= 0:
            return
        now = time.perf_counter()
        if not self._context.answer.first_token_at:
            self._context.answer.first_token_at = now
            # An answer in one piece has no first token of its own to wait for.
            if question.stream:
                self._metrics.ttft(now - self._context.started, question.model, self._trace_id)
        else:
            seconds = (now - self._last_text_at) / new
            self._metrics.inter_token(seconds, new, question.model, self._trace_id)
        self._num_text_events = num_text_events
        self._last_text_at = now

    def continued(self, cause: str) -> None:
        """A stream left its engine: `failed`, `drained`, or `lost` when no other goes on with it."""
        self._metrics.continuation(cause)

    def note_output(self, reports: Iterable[GuardReport]) -> None:
        """What the guard did to the answer."""
        for report in reports:
            if report:
                self._context.answer.guard_hits += report.total
                self._metrics.guard_actions(report.counts, "output")

    async def commit(self) -> None:
        """The answer is complete: return when its record is durable.

        Raises:
            LedgerUnavailable: it could not be written.
        """
        await self._settle(200)

    async def fail(self, error: GatewayError) -> None:
        """The request ends in an error. One that reached an engine is recorded too."""
        self._metrics.error(error.code)
        await self._settle_quietly(error.http_status)

    async def abandon(self) -> None:
        """The client has gone."""
        await self._settle_quietly(CLIENT_CLOSED_REQUEST)

    def close(self) -> None:
        """Release what must not leak on any path."""
        if self._context.lease is not None:
            self._context.lease.release()
        self._metrics.request_ended()

    async def _settle_quietly(self, status: int) -> None:
        try:
            await self._settle(status)
        except LedgerUnavailable as error:
            log.error("usage not recorded", extra={"request_id": self._context.request_id, "reason": str(error)})

    async def _settle(self, status: int) -> None:
        if self._settled:
            return
        self._settled = True
        context = self._context
        answer = context.answer
        if context.input_report:
            self._metrics.guard_actions(context.input_report.counts, "input")
        count_by_length(context, is_whole=status == 200)
        answer.cost_nanos = self._prices.cost(context.question.model, answer.prompt_tokens, answer.completion_tokens)
        duration = time.perf_counter() - context.started
        self._metrics.request_settled(context, status, duration, self._trace_id)
        self._tracing.finish_request(context, self._trace, status)
        await self._record_and_pay(status, duration)

    async def _record_and_pay(self, status: int, duration: float) -> None:
        """First the record, then the limits and budgets: of a gateway that is killed in between the ledger knows more
        than its budgets, which is set right from the ledger; the other way round it would not be.
        """
        context = self._context
        answer = context.answer
        cost = answer.cost_nanos
        try:
            # An answer without an engine is the policy's.
            if answer.engine is not None or answer.finish_reason:
                if status == 200 and self._receipts is not None:
                    record_receipt(context, self._receipts)
                    if answer.receipt is not None:
                        self._metrics.receipt_recorded()
                await self._ledger.commit(self._record(status, duration))
        except LedgerUnavailable:
            # An answer that is not on record was not released either: nobody pays for it.
            cost = 0
            raise
        finally:
            if context.lease is not None:
                context.lease.settle(answer.prompt_tokens + answer.completion_tokens, cost)

    def _record(self, status: int, duration: float) -> UsageRecord:
        context = self._context
        mark = context.mark
        answer = context.answer
        question = context.question
        assert context.principal is not None
        input_hits = context.input_report.total if context.input_report is not None else 0
        return UsageRecord(
            request_id=context.request_id,
            created_at=context.created_at,
            tenant=context.principal.tenant,
            key_id=context.principal.key_id,
            model=question.model,
            endpoint=context.endpoint.name,
            status=status,
            streamed=question.stream,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            prompt_chars=question.prompt_chars,
            answer_chars=answer.chars,
            refused=answer.finish_reason == FILTERED or looks_like_refusal(answer.start),
            guard_hits=input_hits + answer.guard_hits,
            mark_scheme="" if mark.scheme == "off" else mark.scheme,
            mark_key_id=mark.key_id,
            ttft_s=answer.first_token_at - context.started if question.stream and answer.first_token_at else None,
            duration_s=duration,
            finish_reason=answer.finish_reason,
            engine=answer.engine.name if answer.engine is not None else "",
            asked_model=question.asked_model or question.model,
            cost_nanos=answer.cost_nanos,
            continued=answer.continued,
            priority=question.priority,
            policy=context.policy_digest,
            receipt=answer.receipt.record if answer.receipt is not None else None,
        )
