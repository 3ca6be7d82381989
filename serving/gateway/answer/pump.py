"""A stream's bytes from engines to the client: relayed, cut, continued elsewhere, handed over, and ended as one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from serving.gateway.admission.permit import Permit
from serving.gateway.answer.attempts import LOOK_AGAIN_S, Attempts, EngineQuestion
from serving.gateway.answer.continuation import CannotContinue, can_take_over, next_part, obstacle, usage_event
from serving.gateway.answer.joining import Joined
from serving.gateway.answer.settle import Settlement
from serving.gateway.cleaning import offload
from serving.gateway.context import RequestContext
from serving.gateway.endpoints.relay import EventRelay
from serving.gateway.errors import EngineFailed, GatewayError
from serving.gateway.settings.failover import FailoverSettings
from serving.gateway.streams.broken import StreamBroken
from serving.gateway.streams.relay import StreamRelay
from serving.guard.question.limits import SMALL_BYTES
from serving.http.client import StallPolicy, UpstreamError, UpstreamResponse
from serving.http.sse import EventTooLong

log = logging.getLogger(__name__)

_ENGINE_DIED = "The engine stopped in the middle of this answer. What was sent is all there is; ask again."


def interrupted() -> EngineFailed:
    """The error that a stream ends in when nobody goes on with it."""
    return EngineFailed(_ENGINE_DIED, code="stream_interrupted")


class Receiver(Protocol):
    """Takes what a relay releases."""

    @property
    def may_pass_now(self) -> bool:
        """Whether `pass_now` has nothing to wait for."""

    def pass_now(self, released: bytes) -> None:
        """As `pass_on`, from a callback of the event loop."""

    async def pass_on(self, released: bytes) -> None:
        """Take it, once there is room for it."""


class NotBegun(Exception):
    """The stream broke off before the client had any of it: it may be asked for again from the beginning."""


class _HandOver(Exception):
    """The engine is draining and its grace is over: another one goes on with the stream."""


class Pump:
    """Feeds a relay from one engine, and what it releases to the client. A stream that breaks off is not continued."""

    def __init__(
        self,
        relay: StreamRelay | EventRelay,
        context: RequestContext,
        settlement: Settlement,
        attempts: Attempts,
        permit: Permit | None,
        has_begun: Callable[[], bool],
    ) -> None:
        """`has_begun`: whether the client has some of the answer."""
        self._relay = relay
        self._context = context
        self._settlement = settlement
        self._attempts = attempts
        self._permit = permit
        self._has_begun = has_begun

    @property
    def complete(self) -> bool:
        """Whether the engine has nothing more to say."""
        return self._relay.done

    async def run(self, response: UpstreamResponse, question: EngineQuestion, receiver: Receiver) -> None:
        """Relay until the answer is complete, all but the closing events.

        Raises:
            NotBegun: nobody goes on with it, and the client has none of it yet.
            EngineFailed: `stream_interrupted`, when the rest cannot be had.
        """
        relay = self._relay
        try:
            at_once = partial(self._relay_at_once, receiver)
            while data := await response.piece(at_once):
                is_small = len(data) + relay.num_pending <= SMALL_BYTES
                released = relay.feed(data) if is_small else await self._offload(relay.feed, data)
                self._note_progress()
                await receiver.pass_on(released)
                if relay.done:
                    break
            relay.finish()
        except (UpstreamError, StreamBroken, EventTooLong) as error:
            log.warning("stream broke off", extra={"request_id": self._context.request_id, "reason": str(error)})
            self._attempts.cut(str(error))
            raise (interrupted() if self._has_begun() else NotBegun()) from None

    def count_tokens(self) -> bool:
        """Count what came, where no engine has said it; False: none told its tokens either."""
        return False

    def _relay_at_once(self, receiver: Receiver, data: bytes) -> bytes | None:
        """Relay a piece that came, from the socket's callback; gives back what is left to do, None: nothing."""
        relay = self._relay
        if len(data) + relay.num_pending > SMALL_BYTES or not receiver.may_pass_now:
            return data
        released = relay.feed(data)
        self._note_progress()
        receiver.pass_now(released)
        return b"" if relay.done else None

    async def _offload(self, feed: Callable[[bytes], bytes], data: bytes) -> bytes:
        return await offload(self._context.tenant, SMALL_BYTES, feed, data)

    def _note_progress(self) -> None:
        num_text_events = self._relay.num_text_events
        self._settlement.note_text_events(num_text_events)
        if self._permit is not None and (engine := self._context.answer.engine) is not None:
            self._permit.relayed(num_text_events, engine)


class ContinuedPump(Pump):
    """Feeds one relay from one engine after the other: where one breaks off, another goes on."""

    def __init__(
        self,
        relay: StreamRelay,
        failover: FailoverSettings,
        context: RequestContext,
        settlement: Settlement,
        attempts: Attempts,
        permit: Permit | None,
        has_begun: Callable[[], bool],
    ) -> None:
        super().__init__(relay, context, settlement, attempts, permit, has_begun)
        self._relay: StreamRelay = relay
        self._failover = failover
        self._complete = False

    @property
    def complete(self) -> bool:
        return self._complete

    async def run(self, response: UpstreamResponse, question: EngineQuestion, receiver: Receiver) -> None:
        relay = self._relay
        joined: Joined | None = None
        while True:
            try:
                await self._relay_part(response, joined, receiver)
            except (UpstreamError, StreamBroken, EventTooLong) as error:
                if isinstance(error, StreamBroken):
                    await receiver.pass_on(error.released)
                self._leave_engine(str(error))
            except _HandOver:
                self._leave_engine(None)
            self._complete = relay.done or (joined is not None and joined.complete)
            if relay.complete:
                break
            self._attempts.close(self._complete)
            response, joined = await self._continue(question)
        self._tell_usage()

    def count_tokens(self) -> bool:
        tap = self._relay.tap
        if tap is None or tap.blind or not tap.first:
            return False
        if not self._context.answer.is_counted:
            self._context.answer.note_usage(tap.prompt_tokens, tap.completion_tokens)
        return True

    async def _relay_part(self, response: UpstreamResponse, joined: Joined | None, receiver: Receiver) -> None:
        """Relay one engine's bytes to their end, or to the end of the part that it was asked for."""
        relay, engine = self._relay, self._context.answer.engine
        assert engine is not None
        response.set_stall_policy(StallPolicy(self._failover.stall_timeout_s, self._can_move))
        hand_over_at = 0.0
        source = relay if joined is None else joined
        feed = relay.feed if joined is None else partial(_feed_joined, relay, joined)
        at_once = partial(self._relay_at_once, receiver) if joined is None else None
        while data := await response.piece(at_once):
            is_small = len(data) + source.num_pending <= SMALL_BYTES
            released = feed(data) if is_small else await self._offload(feed, data)
            self._note_progress()
            await receiver.pass_on(released)
            if joined is not None and joined.done:
                await joined.settle()
            if relay.done or (joined is not None and joined.done):
                return
            if engine.draining:
                hand_over_at = self._hand_over_time(hand_over_at)
        if joined is None:
            relay.finish()
        elif not relay.complete:
            raise StreamBroken("The engine ended the stream before the answer was complete.")

    def _relay_at_once(self, receiver: Receiver, data: bytes) -> bytes | None:
        engine = self._context.answer.engine
        # Of an engine that is to be left a task decides when.
        return data if engine is None or engine.draining else super()._relay_at_once(receiver, data)

    def _can_move(self) -> bool:
        """Whether another engine could go on with the stream now."""
        context = self._context
        if self._relay.complete or context.answer.continued >= self._failover.max_continuations:
            return False
        if obstacle(context, self._relay.tap):
            return False
        return self._attempts.has_other(lambda engine: can_take_over(context, engine))

    def _hand_over_time(self, planned: float) -> float:
        """When (`time.monotonic`) a draining engine's stream goes to another one; raises _HandOver when that is now."""
        now = time.monotonic()
        if planned == 0:
            return now + self._failover.handover_grace_s
        if now < planned:
            return planned
        if self._can_move():
            raise _HandOver
        return now + LOOK_AGAIN_S

    def _leave_engine(self, reason: str | None) -> None:
        """Its stream ends here: the engine failed for `reason`, or hands over (None)."""
        what = "stream is handed over" if reason is None else "stream broke off"
        log.warning(what, extra={"request_id": self._context.request_id, "reason": reason})
        self._relay.cut()
        self._attempts.cut(reason)
        if not self._relay.complete:
            context = self._context
            if context.answer.engine is not None:
                context.answer.earlier_manifests.append(context.answer.engine.manifests.get(context.question.model, ""))
            self._settlement.continued("drained" if reason is None else "failed")
            # Counted anew at the end: no engine knows the whole.
            self._context.answer.usage_reported = False

    async def _continue(self, question: EngineQuestion) -> tuple[UpstreamResponse, Joined]:
        """Ask another engine for what is missing.

        Raises: as `run`; before the client has any of it, also what the other engine failed with.
        """
        context, failover = self._context, self._failover
        try:
            if context.answer.continued >= failover.max_continuations:
                raise CannotContinue("it broke off too often")
            part = next_part(context, self._relay.tap, question)
            context.answer.continued += 1
            response = await self._attempts.ask_until_answered(part.question, failover.engine_wait_s)
        except (CannotContinue, GatewayError) as error:
            if not self._has_begun() and isinstance(error, CannotContinue):
                raise NotBegun from None
            self._settlement.continued("lost")
            log.warning("stream is lost", extra={"request_id": context.request_id, "reason": str(error)})
            if not self._has_begun() and isinstance(error, GatewayError):
                raise
            raise interrupted() from None
        return response, part.answer

    def _tell_usage(self) -> None:
        """Where no engine has: the answer came from several, or its last one died too early."""
        context, relay = self._context, self._relay
        answer = context.answer
        if not answer.continued and relay.done:
            self.count_tokens()
            return
        usage = b""
        if not answer.usage_reported and self.count_tokens() and relay.tap is not None and context.question.wants_usage:
            usage = usage_event(relay.tap.first, answer.prompt_tokens, answer.completion_tokens)
        relay.end(usage)


def _feed_joined(relay: StreamRelay, joined: Joined, data: bytes) -> bytes:
    return relay.feed(joined.feed(data))
