"""Admission: a request gets its turn at once while engines have room and nobody waits, else in fair order.

A request waits in the lane of the engines that serve its model: by priority first, then by the tokens its tenant was
served (`counters`), then first come, first served. What can tell at once that it would wait in vain is refused at
once. Everything runs on the event loop; the queue is this process's own.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from serving.gateway.admission.concurrency import Bounds
from serving.gateway.admission.counters import Account
from serving.gateway.admission.lane import Lane, Presence, Ticket
from serving.gateway.admission.places import Places
from serving.gateway.admission.settings import AdmissionSettings
from serving.gateway.admission.turn import Turn
from serving.gateway.admission.wishes import patience_of, priority_of
from serving.gateway.context import RequestContext
from serving.gateway.engines.pool import EnginePool
from serving.gateway.errors import DeadlineExceeded, GatewayError, Overloaded, QueueFull
from serving.gateway.steps import CHARS_PER_TOKEN

_MAX_IDLE_MODELS = 64
# 8,192 tokens, the window of many models that embed.
_CHARS_PER_PLACE = 8192 * CHARS_PER_TOKEN
_RETRY_AT_LEAST_S, _RETRY_AT_MOST_S = 1, 60


@dataclass(frozen=True, slots=True)
class AdmissionState:
    """Numbers for `/metrics`."""

    waiting: Mapping[str, int]
    running: Mapping[str, int]
    drained_per_s: Mapping[str, float]
    """By lane: the first in the alphabet of the models that share its engines."""
    limits: Mapping[str, int]
    refused: Mapping[str, int]


class Admission:
    """Gives turns. `workers`: processes among which the engines' places are divided."""

    def __init__(self, settings: AdmissionSettings, pool: EnginePool, workers: int = 1) -> None:
        self.settings = settings
        self._workers = workers
        self._places = Places(pool, self._bounds(settings), self.dispatch)
        self._lanes: dict[str, Lane] = {}
        self._queued: dict[str, OrderedDict[Ticket, None]] = {}
        self._num_waiting = 0
        # Turns that are given and not begun, by model.
        self._granted: Counter[str] = Counter()
        self._held_back = False
        self._sequence = itertools.count()
        self._waiting: dict[str, int] = {}
        self._running: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        pool.on_capacity.append(self.dispatch)

    def apply(self, settings: AdmissionSettings) -> None:
        """Take new settings; requests that wait already keep their places, whatever the bounds are now."""
        self.settings = settings
        self._places.apply(self._bounds(settings))
        for lane in self._lanes.values():
            lane.lower_share = settings.lower_priority_share
        self.dispatch()

    def try_enter(self, context: RequestContext) -> Turn | None:
        """A turn, if the request need not wait; None: `wait` for one.

        Raises:
            BadRequest: priority or deadline are no numbers.
        """
        principal = context.principal
        assert principal is not None
        context.priority = priority_of(context, self.settings.engine_priority)
        patience_of(context)
        context.places = places_of(context)
        now = time.perf_counter()
        lane = self._lane(context.model, now)
        if lane.num_waiting or self._granted or not self._places.has_room(context.model, now):
            return None
        if context.places > 1 and not self._has_room_for(context, now):
            return None
        lane.forget_idle(now - self.settings.tenant_memory_s)
        presence = lane.presence(principal.tenant, principal.weight)
        if len(lane.presences) > 1 and not self._may_use_room(lane, presence, context, now):
            lane.note_idle(presence, now)
            return None
        account = lane.counters(context.priority).account(principal.tenant, principal.weight)
        return self._begin(context, lane, presence, account)

    async def wait(self, context: RequestContext) -> Turn:
        """A turn, when it is the request's.

        Raises:
            QueueFull, Overloaded, DeadlineExceeded: it would wait in vain, or has waited too long.
        """
        assert context.principal is not None
        now = time.perf_counter()
        asked = patience_of(context)
        leaves_at = min(math.inf if asked is None else context.started + asked, now + self.settings.max_wait_s)
        lane = self._lane(context.model, now)
        lane.forget_idle(now - self.settings.tenant_memory_s)
        self._check(lane, context, asked is not None, leaves_at - now, now)
        tenant, weight = context.principal.tenant, context.principal.weight
        number = next(self._sequence)
        ticket = Ticket(lane, tenant, context.model, context.priority, weight, number, context.places)
        self._queue(ticket, now)
        timer = asyncio.get_running_loop().call_later(
            leaves_at - now, self._expire, ticket, self._too_late(asked is not None)
        )
        # An engine may have room that only others than those that wait already can use.
        self.dispatch()
        try:
            await ticket.future
        except asyncio.CancelledError:
            if not ticket.future.cancelled() and ticket.future.exception() is None:
                # The turn came in the same moment as the end: it goes to the next.
                self._take_up(ticket)
                lane.note_idle(ticket.presence, time.perf_counter())
                self.dispatch()
            elif ticket in self._queued.get(ticket.tenant, ()):
                self._withdraw(ticket)
                self.dispatch()
            raise
        finally:
            timer.cancel()
        # From here to the engine's place there is no await: the place that was granted is still free.
        self._take_up(ticket)
        return self._begin(context, lane, ticket.presence, ticket.account)

    def dispatch(self) -> None:
        """Give turns while engines have room. Called whenever that may be so."""
        if not self._num_waiting:
            return
        now = time.perf_counter()
        for lane in list(self._lanes.values()):
            while lane.num_waiting and (ticket := self._next(lane, now)) is not None:
                self._forget(ticket)
                if ticket.future.done():  # its client has just left, and its task is yet to run
                    lane.note_idle(ticket.presence, now)
                    continue
                self._granted[ticket.model] += ticket.places
                ticket.future.set_result(None)

    def state(self) -> AdmissionState:
        now = time.perf_counter()
        rates = {name: rate for name, lane in self._lanes.items() if (rate := lane.rate.per_second(now)) is not None}
        return AdmissionState(self._waiting, self._running, rates, self._places.limits, self._refused)

    def first_token(self, context: RequestContext, ttft_s: float | None) -> None:
        """Called by turns: the engine's limit learns from it."""
        engine = context.engine
        limit = self._places.limit_of(engine) if engine is not None else None
        if engine is None or limit is None:
            return
        if ttft_s is None:
            limit.observe_answer(engine.in_flight)
        else:
            limit.observe_first_token(ttft_s, engine.in_flight)

    def left(self, lane: Lane, model: str) -> None:
        """Called by turns: one is over."""
        _count(self._running, model, -1)
        self.dispatch()

    def _bounds(self, settings: AdmissionSettings) -> Bounds:
        if not settings.enabled:
            return Bounds(1 << 30, 1, 1 << 30, adaptive=False)
        least, most = settings.min_concurrency, settings.max_concurrency
        bounds = Bounds(settings.concurrency, least, most, settings.adaptive, settings.headroom)
        return bounds.divided(self._workers)

    def _lane(self, model: str, now: float) -> Lane:
        name = self._places.lane_name(model, now)
        lane = self._lanes.get(name)
        if lane is None:
            kept = self._places.lane_names
            self._lanes = {
                each.name: each
                for each in self._lanes.values()
                if each.name in kept or each.num_waiting or each.num_running
            }
            lane = self._lanes[name] = Lane(name, self.settings.lower_priority_share)
        return lane

    def _begin(self, context: RequestContext, lane: Lane, presence: Presence, account: Account[Ticket]) -> Turn:
        _count(self._running, context.model, 1)
        return Turn(self, context, lane, presence, lane.counters(context.priority), account)

    def _may_use_room(self, lane: Lane, presence: Presence, context: RequestContext, now: float) -> bool:
        """Whether a place is free beyond those kept for others, or for this tenant."""
        free, places = self._places.room(context.model, now)
        kept = self._kept(places)
        return free - kept >= min(context.places, places - kept) or lane.is_modest(
            presence, places, more=context.places
        )

    def _has_room_for(self, context: RequestContext, now: float) -> bool:
        """Whether all of a batch has room; one that is larger than all places together takes all of them."""
        free, places = self._places.room(context.model, now)
        return free >= min(context.places, places)

    def _kept(self, places: int) -> int:
        return math.ceil(places * self.settings.headroom) if places > 1 else 0

    def _next(self, lane: Lane, now: float) -> Ticket | None:
        rooms: dict[str, tuple[int, int]] = {}
        num_granted = self._granted.total()
        is_shared = len(lane.presences) > 1
        is_kept_for_batch = False

        def can_go(tenant: str, model: str, wanted: int) -> bool:
            nonlocal is_kept_for_batch
            room = rooms.get(model)
            if room is None:
                room = rooms[model] = self._places.room(model, now)
            free, places = room[0] - num_granted, room[1]
            if is_kept_for_batch or free <= 0:
                goes = False
            elif not is_shared or lane.is_modest(lane.presences[tenant], places):
                goes = free >= min(wanted, places)
            else:
                kept = self._kept(places)
                goes = free - kept >= min(wanted, max(1, places - kept))
            if not goes and free > 0 and wanted > 1:
                # Its turn has come, and its room not yet: what becomes free is kept for it, or small requests would
                # take each place before a batch has all of its own.
                is_kept_for_batch = True
            if not goes and room[0] > 0 and self._granted[model] < num_granted:
                self._held_back = True
            return goes

        return lane.next(can_go, now)

    def _take_up(self, ticket: Ticket) -> None:
        """The turn that the ticket was granted begins, or is given back."""
        self._granted[ticket.model] -= ticket.places
        if not self._granted[ticket.model]:
            del self._granted[ticket.model]
        if self._held_back and not self._granted:
            # A place was kept free for a turn of another model, which may have gone to another engine.
            self._held_back = False
            asyncio.get_running_loop().call_soon(self.dispatch)

    def _queue(self, ticket: Ticket, now: float) -> None:
        ticket.lane.wait(ticket, now)
        self._queued.setdefault(ticket.tenant, OrderedDict())[ticket] = None
        self._num_waiting += 1
        _count(self._waiting, ticket.model, 1)

    def _withdraw(self, ticket: Ticket) -> None:
        """Take a ticket out that waits; others may go now that it is no longer in their way."""
        ticket.lane.withdraw(ticket, time.perf_counter())
        self._forget(ticket)

    def _forget(self, ticket: Ticket) -> None:
        tickets = self._queued[ticket.tenant]
        del tickets[ticket]
        if not tickets:
            del self._queued[ticket.tenant]
        self._num_waiting -= 1
        _count(self._waiting, ticket.model, -1)

    def _expire(self, ticket: Ticket, error: GatewayError) -> None:
        if not ticket.future.done():
            self._drop(ticket, error)
            self.dispatch()  # room may have been kept for it

    def _drop(self, ticket: Ticket, error: GatewayError) -> None:
        self._withdraw(ticket)
        if not ticket.future.done():
            self._note_refusal(error)
            ticket.future.set_exception(error)

    def _check(self, lane: Lane, context: RequestContext, has_deadline: bool, patience_s: float, now: float) -> None:
        """Refuse what would wait in vain; make room for a tenant that has less waiting than another."""
        assert context.principal is not None
        tenant, weight = context.principal.tenant, context.principal.weight
        own = len(self._queued.get(tenant, ()))
        rate = lane.rate.per_second(now)
        wait_s = lane.num_ahead(tenant, weight, context.priority) / rate if rate else 0.0
        retry = _retry_after(wait_s)
        if patience_s <= 0 or (has_deadline and wait_s > patience_s):
            self._refuse(self._too_late(True))
        if own >= self.settings.max_queued_per_tenant:
            self._refuse(QueueFull(f"{own} requests of this tenant wait already. Try again later.", headers=retry))
        if wait_s > patience_s:
            message = f"Requests wait about {wait_s:.0f} s just now, which is too long. Try again later."
            self._refuse(self._full(own)(message, headers=retry))
        if self._num_waiting >= self.settings.max_queued:
            self._make_room(own, weight, retry)

    def _full(self, own: int) -> type[QueueFull | Overloaded]:
        """Whose doing a full queue is: the tenant's, with `own` waiting more than others on average, or everyone's."""
        return QueueFull if own * len(self._queued) > self._num_waiting else Overloaded

    def _make_room(self, own: int, weight: float, retry: tuple[tuple[bytes, bytes], ...]) -> None:
        """The tenant with most waiting gives up its newest, least urgent request, or this one is refused."""
        share, tickets = max(
            ((len(tickets) / next(iter(tickets)).presence.weight, tickets) for tickets in self._queued.values()),
            key=lambda each: each[0],
        )
        if share <= (own + 1) / weight:
            self._refuse(self._full(own)("The queue is full. Try again later.", headers=retry))
        newest = min(reversed(tickets), key=lambda ticket: ticket.priority)
        message = "The queue is full, and this tenant has most waiting. Try again later."
        self._drop(newest, QueueFull(message, headers=retry))

    def _refuse(self, error: GatewayError) -> None:
        self._note_refusal(error)
        raise error

    def _note_refusal(self, error: GatewayError) -> None:
        self._refused[error.code] = self._refused.get(error.code, 0) + 1

    def _too_late(self, has_deadline: bool) -> GatewayError:
        if has_deadline:
            return DeadlineExceeded("The answer could not begin before the request's deadline.")
        message = f"No engine had room within {self.settings.max_wait_s:g} s. Try again later."
        return Overloaded(message, headers=_retry_after(0.0))


def places_of(context: RequestContext) -> int:
    """How much of an engine's room a request takes: a place for each sequence.

    Embeddings take one for what a model usually reads at once, so that many short texts are one and long ones are not.
    """
    if context.endpoint != "embeddings":
        return context.sequences
    return max(1, context.prompt_chars // _CHARS_PER_PLACE)


def _count(counts: dict[str, int], model: str, by: int) -> None:
    number = counts.get(model, 0) + by
    # A zero is worth showing, but not for every name that clients of an engine without a list of models make up.
    if number or len(counts) <= _MAX_IDLE_MODELS:
        counts[model] = number
    else:
        counts.pop(model, None)


def _retry_after(wait_s: float) -> tuple[tuple[bytes, bytes], ...]:
    seconds = max(_RETRY_AT_LEAST_S, min(_RETRY_AT_MOST_S, math.ceil(wait_s)))
    return ((b"retry-after", str(seconds).encode()),)
