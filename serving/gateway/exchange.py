"""One request meeting its engines: the question sent, the answer relayed, everything given back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

from serving.gateway.asgi import EVENT_STREAM, JSON, Client, Headers, Send, encode_headers, send_error, send_whole
from serving.gateway.attempts import Attempts, Question
from serving.gateway.cached_counts import without_cached_counts
from serving.gateway.cleaning import offload
from serving.gateway.context import RequestContext
from serving.gateway.endpoints.answer import clean_whole
from serving.gateway.endpoints.relay import EventRelay
from serving.gateway.endpoints.texts import FILTERED, AnswerText, Written
from serving.gateway.engines.engine import Engine
from serving.gateway.engines.upstream import UpstreamError, UpstreamResponse
from serving.gateway.errors import (
    AnswerTooLarge,
    BadRequest,
    ContextTooLong,
    ControlTokenMade,
    EngineFailed,
    GatewayError,
    LedgerDown,
    Overloaded,
)
from serving.gateway.failover import Failover
from serving.gateway.fields.rules import ignored_header
from serving.gateway.policy import PolicySteps
from serving.gateway.policy.answer import (
    joined,
    note_replaced,
    texts_of_events,
    texts_of_whole,
    written_answer,
)
from serving.gateway.question_body import question_body
from serving.gateway.receipts.step import receipt_comment, receipt_header, restart_receipt
from serving.gateway.settle import Settlement
from serving.gateway.steps import check_engines_mark
from serving.gateway.streams.answer import CleanAnswer, clean_answer
from serving.gateway.streams.broken import StreamBroken, refuse_blocked
from serving.gateway.streams.chunks import encode
from serving.gateway.streams.continuation import tap_for
from serving.gateway.streams.relay import StreamRelay
from serving.gateway.streams.sse import EventTooLong
from serving.gateway.streams.streamed import NotBegun, StreamedAnswer, interrupted
from serving.guard import Answers, GuardReport
from serving.guard.limits import SMALL_BYTES
from serving.ledger import LedgerUnavailable

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# An engine that sends signs of life while it reads a long question is to be heard by the client after this.
_LONGEST_KEPT_S = 5.0
_MOST_KEPT_BYTES = 64 * 1024
# An answer of so many bytes is not counted: most are smaller.
_UNCOUNTED_BYTES = 64 * 1024
_ROOM_WAIT_S = 30.0


class Exchange:
    """One request: asks, relays the answer, and sees to it that an engine's failure costs the client none."""

    def __init__(
        self,
        context: RequestContext,
        settlement: Settlement,
        send: Send,
        client: Client,
        attempts: Attempts,
        *,
        failover: Failover,
        policy_steps: PolicySteps,
        max_bytes: int,
    ) -> None:
        self._context = context
        self._settlement = settlement
        self._send = send
        self._client = client
        self._attempts = attempts
        self._failover = failover
        self._policy_steps = policy_steps
        self._max_bytes = max_bytes
        self._relay: StreamRelay | EventRelay | None = None
        self._started = False
        self._noted = False
        self._stream: StreamedAnswer | None = None
        self._collected: bytearray | None = None
        """What a stream has released, where the policy reads the whole answer."""
        self._holds = False
        self._first = b""
        """The beginning of a stream, before its first text."""
        self._kept_since = 0.0
        self._held = 0
        """Bytes of the answer that are counted among all that the process holds."""

    async def run(self) -> None:
        question = Question(self._context.endpoint.target, self._body_for)
        while True:
            try:
                response = await self._attempts.ask(question)
            except BadRequest as refusal:
                if not self._unbinds(refusal):
                    raise
                continue
            if response.header(b"content-type").startswith(b"text/event-stream"):
                try:
                    await self._relay_stream(response, question)
                    return
                except NotBegun:
                    self._forget_stream()
                    self._attempts.begin_again(interrupted())
                    continue
            try:
                await self._relay_whole(response)
                return
            except (UpstreamError, EngineFailed) as error:
                self._attempts.answer_broke(str(error))

    async def refuse(self) -> None:
        """The policy refuses the question: the answer is its reason, and no engine is asked."""
        context = self._context
        assert context.review is not None
        assert context.review.refused_by is not None
        reason = context.review.refused_by.reason or ""
        written = {choice: Written(reason, FILTERED) for choice in range(context.choices)}
        note_replaced(context, written, ())
        context.usage_reported = True
        await self._commit()
        answer = written_answer(context, written)
        if not context.stream:
            headers = [JSON, *self._headers(), *receipt_header(context)]
            await send_whole(self._send, 200, encode(context.endpoint.write_answer(answer)), headers)
            return
        await self._start([*EVENT_STREAM, *self._headers()])
        *events, last = context.endpoint.write_stream(answer)
        await self._send({"type": "http.response.body", "body": joined([*events, *receipt_comment(context), last])})

    async def fail(self, error: GatewayError) -> None:
        """End the answer with an error: JSON while nothing was sent, an error event afterwards."""
        if self._stream is not None:
            self._stream.count_tokens()
        if self._relay is not None:
            self._note_output(self._relay)
        await self._settlement.fail(error)
        if not self._started:
            await send_error(self._send, error, self._headers(), self._context.error_body(error))
            return
        rest = self._relay.flush() if self._relay is not None else b""
        await self._send({"type": "http.response.body", "body": rest + self._context.error_event(error)})

    async def abandon(self) -> None:
        """The client has gone: what it was sent is counted."""
        if self._stream is not None:
            self._stream.count_tokens()
        await self._settlement.abandon()

    def close(self) -> None:
        """Give everything back."""
        relay_done = self._relay is not None and self._relay.done
        self._attempts.close(self._stream.complete if self._stream is not None else relay_done)
        # It knows this exchange: a cycle would keep the whole answer until a garbage collection.
        self._stream = None

    def _body_for(self, engine: Engine) -> bytes:
        check_engines_mark(self._context, engine)
        context = self._context
        if context.stream and self._continues and engine.is_vllm(context.model):
            return question_body(context, engine, return_token_ids=True)
        return question_body(context, engine)

    @property
    def _hides_cached(self) -> bool:
        """Whether the engine's cache is everybody's: it takes no salt."""
        context = self._context
        return context.engine is not None and not context.engine.is_vllm(context.model)

    def _unbinds(self, refusal: BadRequest) -> bool:
        """Whether to ask again without binding tools: not every schema can be made a grammar of."""
        if not self._context.binds_tools or isinstance(refusal, ContextTooLong | ControlTokenMade):
            return False
        self._context.binds_tools = False
        return True

    def _headers(self) -> list[tuple[bytes, bytes]]:
        context = self._context
        headers = [(b"x-request-id", context.request_id.encode())]
        if context.lease is not None:
            headers += encode_headers(context.lease.headers)
        if context.ignored_fields:
            headers.append((b"x-signet-ignored-fields", ignored_header(context.ignored_fields)))
        if context.engine is not None:
            headers.append((b"x-signet-mark", context.mark_header()))
        if context.review is not None:
            headers += context.review.header()
        return headers

    async def _relay_whole(self, response: UpstreamResponse) -> None:
        """Read, clean and send a whole answer. UpstreamError, EngineFailed: it is none, and nothing was sent."""
        body = response.whole(min(self._max_bytes, _UNCOUNTED_BYTES))
        if body is None:
            body = await self._read(response)
        answer = await self._offload(len(body), self._cleaned, body)
        self._context.counted_chars = self._context.answer_chars
        self._settlement.note_output(answer.reports)
        refuse_blocked(answer.reports)
        self._settlement.note_text_events()
        body = await self._reviewed(answer.body, answer.reports)
        await self._commit()
        if self._hides_cached:
            body = await self._offload(len(body), without_cached_counts, body, is_stream=False)
        headers = [JSON, *self._headers(), *receipt_header(self._context)]
        await send_whole(self._send, 200, body, headers)

    def _cleaned(self, body: bytes) -> CleanAnswer:
        context = self._context
        clean = clean_answer if context.endpoint.has_choices else clean_whole
        return clean(context, self._answers, body)

    async def _read(self, response: UpstreamResponse) -> bytes:
        """UpstreamError: it could not be read to its end. AnswerTooLarge: reading ended at the limit."""
        length = response.header(b"content-length")
        if length.isdigit():
            if int(length[:20]) > self._max_bytes:
                raise self._too_large()
            await self._wait_for_room(int(length))
        parts: list[bytes] = []
        size = 0
        while data := await response.piece():
            parts.append(data)
            size += len(data)
            if size > self._max_bytes:
                raise self._too_large()
            self._hold(size)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _wait_for_room(self, size: int) -> None:
        """Leave an answer of `size` bytes with its engine until there is room. Overloaded: there was none in time."""
        if size <= self._held + _UNCOUNTED_BYTES:
            return
        try:
            async with asyncio.timeout(_ROOM_WAIT_S):
                await self._client.wait_for_room(self._context.tenant, size - self._held)
        except TimeoutError:
            raise _no_room() from None
        self._held = size

    def _hold(self, size: int) -> None:
        """Of an answer whose length is not known beforehand `size` bytes have come. Overloaded: there is no room.

        It does not wait: two that have come by half would wait for each other.
        """
        if size <= self._held + _UNCOUNTED_BYTES:
            return
        if not self._client.hold(self._context.tenant, size - self._held):
            raise _no_room()
        self._held = size

    def _too_large(self) -> AnswerTooLarge:
        return AnswerTooLarge(
            f"The answer is larger than {self._max_bytes} bytes. Ask for fewer answers, tokens or log-probabilities, "
            "or stream it."
        )

    async def _reviewed(self, body: bytes, reports: Sequence[GuardReport]) -> bytes:
        """What the policy makes of a whole answer."""
        context, review = self._context, self._context.review
        if review is None:
            return body
        texts = await self._offload(len(body), texts_of_whole, context, body) if review.reads_answer else []
        written = await self._policy_steps.judge_output(context, review, reports, texts)
        if not written:
            return body
        return await self._offload(len(body), _whole_with, context, body, written, texts)

    async def _relay_stream(self, response: UpstreamResponse, question: Question) -> None:
        relay = self._relay = self._new_relay()
        review = self._context.review
        if review is not None and review.reads_answer:
            self._collected, self._holds = bytearray(), review.holds_answer
        if isinstance(relay, StreamRelay):
            stream = self._stream = StreamedAnswer(
                self._context,
                self._settlement,
                self._attempts,
                self._failover.settings,
                relay,
                self._pass_on,
                has_begun=lambda: self._started,
            )
            await stream.run(response, question)
        else:
            await self._relay_events(response, relay)
        refuse_blocked(relay.reports())
        self._note_output(relay)
        events = await self._reviewed_events(relay)
        await self._commit()
        if not self._started:
            await self._start([*EVENT_STREAM, *self._headers()])
        await self._send({"type": "http.response.body", "body": await self._last_bytes(relay, events)})

    def _forget_stream(self) -> None:
        """A stream broke off before the client had any of it."""
        self._relay = self._stream = self._collected = None
        self._first = b""
        restart_receipt(self._context)

    async def _reviewed_events(self, relay: StreamRelay | EventRelay) -> list[bytes]:
        """What the policy puts in place of a stream that it has held; nothing where it lets the stream be."""
        context, review = self._context, self._context.review
        if review is None:
            return []
        data = bytes(self._collected) + relay.closing if self._collected is not None else b""
        texts = await self._offload(len(data), texts_of_events, context, data)
        written = await self._policy_steps.judge_output(context, review, relay.reports(), texts)
        if not written:
            return []
        return await self._offload(len(data), _events_with, context, data, written, texts)

    async def _last_bytes(self, relay: StreamRelay | EventRelay, events: list[bytes]) -> bytes:
        comments = receipt_comment(self._context)
        if events:
            return self._first + joined([*events[:-1], *comments, events[-1]])
        held = bytes(self._collected) if self._holds and self._collected is not None else b""
        last = self._first + held + relay.close(comments)
        if self._hides_cached:
            last = await self._offload(len(last), without_cached_counts, last, is_stream=True)
        return last

    def _new_relay(self) -> StreamRelay | EventRelay:
        context = self._context
        if context.endpoint.has_choices:
            return StreamRelay(context, self._answers, tap_for(context) if self._continues else None)
        if not context.stream:
            raise EngineFailed("The engine sent a stream that was not asked for.")
        return EventRelay(context, self._answers)

    @property
    def _continues(self) -> bool:
        return self._failover.settings.continue_streams and self._context.endpoint.has_choices

    async def _relay_events(self, response: UpstreamResponse, relay: EventRelay) -> None:
        """A stream that is not continued."""
        try:
            while data := await response.piece():
                if len(data) + relay.num_pending <= SMALL_BYTES:
                    released = relay.feed(data)
                else:
                    released = await self._offload(SMALL_BYTES, relay.feed, data)
                self._settlement.note_text_events(relay.num_text_events)
                if self._context.permit is not None:
                    self._context.permit.relayed(relay.num_text_events)
                await self._pass_on(released)
                if relay.done:
                    break
            relay.finish()
        except (UpstreamError, StreamBroken, EventTooLong) as error:
            log.warning("stream broke off", extra={"request_id": self._context.request_id, "reason": str(error)})
            self._attempts.cut(str(error))
            raise (interrupted() if self._started else NotBegun()) from None

    async def _offload(self, size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` on so many bytes of the answer returns."""
        return await offload(self._context.tenant, size, work, *args, **kwargs)

    @property
    def _answers(self) -> Answers:
        assert self._context.answers is not None
        return self._context.answers

    def _note_output(self, relay: StreamRelay | EventRelay) -> None:
        if not self._noted:
            self._noted = True
            self._settlement.note_output(relay.reports())

    async def _pass_on(self, released: bytes) -> None:
        if released and self._collected is not None:
            self._collected += released
            if len(self._collected) > self._max_bytes:
                raise self._too_large()
            self._hold(len(self._collected))
        if not released or self._holds:
            return
        if not self._started:
            # Until text has come the answer can begin anew elsewhere, and fail with a status of its own.
            self._first += released
            if self._may_still_wait():
                return
            released, self._first = self._first, b""
            await self._start([*EVENT_STREAM, *self._headers()])
        if self._hides_cached:
            released = await self._offload(len(released), without_cached_counts, released, is_stream=True)
        await self._send({"type": "http.response.body", "body": released, "more_body": True})

    def _may_still_wait(self) -> bool:
        """Whether the beginning of a stream is kept back: without text, short, and not for long."""
        if self._relay is None or self._relay.num_text_events or len(self._first) > _MOST_KEPT_BYTES:
            return False
        now = time.monotonic()
        self._kept_since = self._kept_since or now
        return now - self._kept_since < _LONGEST_KEPT_S

    async def _start(self, headers: Headers) -> None:
        self._started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": list(headers)})

    async def _commit(self) -> None:
        try:
            await self._settlement.commit()
        except LedgerUnavailable:
            raise LedgerDown("The answer could not be recorded, so it is not released. Try again later.") from None


def _no_room() -> Overloaded:
    message = "The gateway holds as many bytes of answers as it may, of this tenant or of all. Try again shortly."
    return Overloaded(message, code="buffers_full", headers=((b"retry-after", b"2"),))


def _whole_with(
    context: RequestContext, body: bytes, written: Mapping[int, Written], texts: Sequence[AnswerText]
) -> bytes:
    note_replaced(context, written, texts)
    return context.endpoint.replace_in_answer(body, written_answer(context, written))


def _events_with(
    context: RequestContext, data: bytes, written: Mapping[int, Written], texts: Sequence[AnswerText]
) -> list[bytes]:
    note_replaced(context, written, texts)
    return context.endpoint.replace_in_stream(data, written_answer(context, written))
