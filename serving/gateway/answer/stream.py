"""A streamed answer on its way to the client: kept back where it has to be, judged, and ended."""

from __future__ import annotations

import time

from serving.gateway.admission.permit import Permit
from serving.gateway.answer.attempts import Attempts, EngineQuestion
from serving.gateway.answer.cached_counts import hides_cached, without_cached_counts
from serving.gateway.answer.continuation import tap_for
from serving.gateway.answer.outgoing import Outgoing, joined
from serving.gateway.answer.pump import ContinuedPump, Pump
from serving.gateway.answer.room import AnswerRoom
from serving.gateway.answer.settle import Settlement
from serving.gateway.cleaning import offload
from serving.gateway.context import RequestContext
from serving.gateway.endpoints.relay import EventRelay
from serving.gateway.errors import EngineFailed
from serving.gateway.policy import PolicySteps
from serving.gateway.policy.review import Review
from serving.gateway.records import HeardTexts
from serving.gateway.settings.failover import FailoverSettings
from serving.gateway.steps.receipt import receipt_comment
from serving.gateway.streams.broken import refuse_blocked
from serving.gateway.streams.relay import StreamRelay
from serving.http.client import UpstreamResponse

# An engine that sends signs of life while it reads a long question is to be heard by the client after this.
_LONGEST_KEPT_S = 5.0
_MOST_KEPT_BYTES = 64 * 1024


class StreamWriter:
    """One streamed answer, from its first engine's bytes to the last that are sent."""

    def __init__(
        self,
        context: RequestContext,
        settlement: Settlement,
        attempts: Attempts,
        failover: FailoverSettings,
        policy_steps: PolicySteps,
        review: Review | None,
        permit: Permit | None,
        room: AnswerRoom,
        outgoing: Outgoing,
    ) -> None:
        """Raises EngineFailed where no stream was asked for."""
        assert context.answer_guard is not None
        self._context = context
        self._settlement = settlement
        self._policy_steps = policy_steps
        self._room = room
        self._outgoing = outgoing
        self._noted = False
        self._review = review
        context.answer.heard = self._heard = HeardTexts() if review is not None and review.reads_answer else None
        self._held = bytearray() if review is not None and review.reads_answer and review.holds_answer else None
        """What would have been sent, where the policy decides about the whole answer first."""
        self._shows_as_it_is = self._heard is None and not hides_cached(context)
        self._first = b""
        """The beginning of the stream, before its first text."""
        self._kept_since = 0.0
        self._relay: StreamRelay | EventRelay
        self._pump: Pump
        parts = (context, settlement, attempts, permit, lambda: outgoing.started)
        if context.endpoint.has_choices:
            chunks = StreamRelay(context, context.answer_guard, tap_for(context) if failover.continue_streams else None)
            self._relay, self._pump = chunks, ContinuedPump(chunks, failover, *parts)
        elif context.question.stream:
            self._relay = EventRelay(context, context.answer_guard)
            self._pump = Pump(self._relay, *parts)
        else:
            raise EngineFailed("The engine sent a stream that was not asked for.")

    @property
    def complete(self) -> bool:
        """Whether the engine has nothing more to say."""
        return self._pump.complete

    async def write(self, response: UpstreamResponse, question: EngineQuestion) -> None:
        """Relay the stream to its end.

        Raises:
            NotBegun: it broke off before the client had any of it.
            EngineFailed: `stream_interrupted`, when the rest cannot be had.
            GatewayError: it may not be released.
        """
        await self._pump.run(response, question, self)
        refuse_blocked(self._relay.reports())
        self._note_output()
        events = await self._judged()
        await self._outgoing.commit()
        await self._outgoing.last(await self._last_bytes(events))

    def count(self) -> None:
        """Count what came of an answer that ends early."""
        self._pump.count_tokens()

    def fail(self) -> None:
        """The same where an error ends it: what the guard did to it is told too."""
        self._pump.count_tokens()
        self._note_output()

    def flush(self) -> bytes:
        """What of it may still be sent in front of the error."""
        return self._relay.flush()

    def forget(self) -> None:
        """It broke off before the client had any of it, and is asked for anew."""
        self._context.answer.digest_anew()

    async def _judged(self) -> list[bytes]:
        """What the policy puts in place of a stream that it has held; nothing where it lets the stream be."""
        review = self._review
        if review is None:
            return []
        data = bytes(self._held) + self._relay.closing if self._held is not None else b""
        return await self._policy_steps.judge_stream(self._context, review, self._relay.reports(), data)

    async def _last_bytes(self, events: list[bytes]) -> bytes:
        comments = receipt_comment(self._context)
        if events:
            return self._first + joined([*events[:-1], *comments, events[-1]])
        last = self._first + bytes(self._held or b"") + self._relay.close(comments)
        return await self._as_shown(last) if hides_cached(self._context) else last

    def _note_output(self) -> None:
        if not self._noted:
            self._noted = True
            self._settlement.note_output(self._relay.reports())

    @property
    def may_pass_now(self) -> bool:
        """Whether `pass_now` may be called: the answer has begun, and nothing has to be waited for or looked at."""
        return self._shows_as_it_is and self._outgoing.may_write

    def pass_now(self, released: bytes) -> None:
        """As `pass_on`, from a callback of the event loop."""
        if released:
            self._outgoing.write(released)

    async def pass_on(self, released: bytes) -> None:
        """Take what the relay has released: collect it, keep it back, or send it."""
        if self._heard is not None:
            self._room.hold(self._heard.num_chars if self._held is None else len(self._held) + len(released))
        if self._held is not None:
            self._held += released
        if not released or self._held is not None:
            return
        if not self._outgoing.started:
            # Until text has come the answer can begin anew elsewhere, and fail with a status of its own.
            self._first += released
            if self._may_still_wait():
                return
            released, self._first = self._first, b""
        if hides_cached(self._context):
            released = await self._as_shown(released)
        await self._outgoing.piece(released)

    async def _as_shown(self, data: bytes) -> bytes:
        return await offload(self._context.tenant, len(data), without_cached_counts, data, is_stream=True)

    def _may_still_wait(self) -> bool:
        """Whether the beginning is kept back: without text, short, and not for long."""
        if self._relay.num_text_events or len(self._first) > _MOST_KEPT_BYTES:
            return False
        now = time.monotonic()
        self._kept_since = self._kept_since or now
        return now - self._kept_since < _LONGEST_KEPT_S
