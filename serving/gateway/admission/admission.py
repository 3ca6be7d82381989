"""Admission: a request gets its permit at once while engines have room and nobody waits, else in fair order.

A request waits in the queue of the engines that serve its model: by priority first, then by the tokens its tenant was
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

from serving.gateway.admission.capacity import Capacity
from serving.gateway.admission.concurrency import Bounds
from serving.gateway.admission.counters import Account
from serving.gateway.admission.demand import Demand
from serving.gateway.admission.fair_queue import Announcement, FairQueue, TenantState, Ticket
from serving.gateway.admission.permit import Permit
from serving.gateway.engines.engine import Engine
from serving.gateway.engines.pool import EnginePool
from serving.gateway.errors import DeadlineExceeded, GatewayError, Overloaded, QueueFull
from serving.gateway.settings.admission import AdmissionSettings

_MAX_IDLE_MODELS = 64
_RETRY_AT_LEAST_S, _RETRY_AT_MOST_S = 1, 60


@dataclass(frozen=True, slots=True)
class AdmissionState:
    """Numbers for `/metrics`."""

    waiting: Mapping[str, int]
    running: Mapping[str, int]
    drained_per_s: Mapping[str, float]
    """By queue: the first in the alphabet of the models that share its engines."""
    limits: Mapping[str, int]
    refused: Mapping[str, int]


class Admission:
    """Grants permits. `workers`: processes among which the engines' slots are divided."""

    LIVE = ("gateway.admission",)

    def __init__(self, settings: AdmissionSettings, pool: EnginePool, workers: int = 1) -> None:
        self.settings = settings
        self._workers = workers
        self._capacity = Capacity(pool, self._bounds(settings), self.dispatch)
        self._queues: dict[str, FairQueue] = {}
        # Requests that wait, by tenant. Parts of requests wait too, and are in the queues alone.
        self._queued: dict[str, OrderedDict[Ticket, None]] = {}
        self._num_requests = 0
        self._num_waiting = 0
        # Slots that are granted and not taken yet, by model.
        self._granted: Counter[str] = Counter()
        self._held_back = False
        self._sequence = itertools.count()
        self._waiting: dict[str, int] = {}
        self._running: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        pool.on_capacity.append(self.dispatch)

    def apply(self, settings: AdmissionSettings) -> None:
        """Take new settings; requests that wait already stay queued, whatever the bounds are now."""
        self.settings = settings
        self._capacity.apply(self._bounds(settings))
        for queue in self._queues.values():
            queue.lower_share = settings.lower_priority_share
        self.dispatch()

    def announce(self, demand: Demand, *, is_checked: bool = True) -> Announcement | None:
        """A request is about to be made ready: refuse it now if it would wait in vain then.

        While nobody waits, one that is ready at once (not `is_checked`) need not be counted until then.

        Raises:
            QueueFull, Overloaded, DeadlineExceeded: it would.
        """
        if not is_checked and not self._num_waiting:
            return None
        now = time.perf_counter()
        queue = self._queue_of(demand.model, now)
        if self._num_waiting or queue.num_announced:
            self._refuse_early(queue, demand, now)
        return Announcement(queue, demand.tenant)

    def try_enter(self, demand: Demand) -> Permit | None:
        """A permit, if nobody has to wait; None: `wait` for one."""
        now = time.perf_counter()
        queue = self._queue_of(demand.model, now)
        if queue.num_waiting or self._granted or not self._capacity.has_room(demand.model, now):
            return None
        if demand.slots > 1 and not self._has_room_for(demand, now):
            return None
        queue.forget_idle(now - self.settings.tenant_memory_s)
        tenant_state = queue.tenant_state(demand.tenant, demand.weight)
        if len(queue.tenants) > 1 and not self._may_use_room(queue, tenant_state, demand, now):
            queue.note_idle(tenant_state, now)
            return None
        account = queue.counters(demand.priority).account(demand.tenant, demand.weight)
        return self._begin(demand, queue, tenant_state, account)

    async def wait(self, demand: Demand) -> Permit:
        """Wait in the queue for a permit.

        Raises:
            QueueFull, Overloaded, DeadlineExceeded: it would wait in vain, or has waited too long.
        """
        now = time.perf_counter()
        leaves_at = self._leaves_at(demand, now)
        queue = self._queue_of(demand.model, now)
        queue.forget_idle(now - self.settings.tenant_memory_s)
        wait_s = _wait_s(queue, demand, now)
        own = self._num_queued(demand.tenant)
        self._check(demand, own, wait_s, leaves_at - now)
        if not demand.is_part and self._num_requests >= self.settings.max_queued:
            self._make_room(demand, own, wait_s)
        ticket = Ticket(queue, demand, next(self._sequence))
        self._enqueue(ticket, now)
        timer = asyncio.get_running_loop().call_later(
            leaves_at - now, self._expire, ticket, self._too_late(demand.deadline is not None)
        )
        # An engine may have room that only others than those that wait already can use.
        self.dispatch()
        try:
            await ticket.future
        except asyncio.CancelledError:
            if not ticket.future.cancelled() and ticket.future.exception() is None:
                # Granted at the moment of the cancellation: the next request gets it.
                self._take_up(ticket)
                queue.note_idle(ticket.tenant_state, time.perf_counter())
                self.dispatch()
            elif ticket.waits:
                self._withdraw(ticket)
                self.dispatch()
            raise
        finally:
            timer.cancel()
        # From here to the engine there is no await: the slot that was granted is still free.
        self._take_up(ticket)
        return self._begin(demand, queue, ticket.tenant_state, ticket.account)

    def dispatch(self) -> None:
        """Grant permits while engines have room. Called whenever that may be so."""
        if not self._num_waiting:
            return
        now = time.perf_counter()
        for queue in list(self._queues.values()):
            while queue.num_waiting and (ticket := self._next(queue, now)) is not None:
                self._forget(ticket)
                if ticket.future.done():  # its client has just left, and its task is yet to run
                    queue.note_idle(ticket.tenant_state, now)
                    continue
                self._granted[ticket.model] += ticket.slots
                ticket.future.set_result(None)

    def state(self) -> AdmissionState:
        now = time.perf_counter()
        rates = {name: rate for name, queue in self._queues.items() if (rate := queue.rate.per_second(now)) is not None}
        return AdmissionState(self._waiting, self._running, rates, self._capacity.limits, self._refused)

    def first_token(self, engine: Engine, ttft_s: float | None) -> None:
        """Called by permits: the engine's limit learns from it."""
        limit = self._capacity.limit_of(engine)
        if limit is None:
            return
        if ttft_s is None:
            limit.observe_answer(engine.in_flight)
        else:
            limit.observe_first_token(ttft_s, engine.in_flight)

    def released(self, queue: FairQueue, model: str) -> None:
        """Called by permits: one was released."""
        _count(self._running, model, -1)
        self.dispatch()

    def _bounds(self, settings: AdmissionSettings) -> Bounds:
        if not settings.enabled:
            return Bounds(1 << 30, 1, 1 << 30, adaptive=False)
        least, most = settings.min_concurrency, settings.max_concurrency
        bounds = Bounds(settings.concurrency, least, most, settings.adaptive, settings.headroom)
        return bounds.divided(self._workers)

    def _queue_of(self, model: str, now: float) -> FairQueue:
        name = self._capacity.queue_name(model, now)
        queue = self._queues.get(name)
        if queue is None:
            live = self._capacity.queue_names
            self._queues = {
                queue.name: queue
                for queue in self._queues.values()
                if queue.name in live or queue.num_waiting or queue.num_running or queue.num_announced
            }
            queue = self._queues[name] = FairQueue(name, self.settings.lower_priority_share)
        return queue

    def _begin(self, demand: Demand, queue: FairQueue, tenant_state: TenantState, account: Account[Ticket]) -> Permit:
        _count(self._running, demand.model, 1)
        return Permit(self, demand, queue, tenant_state, queue.counters(demand.priority), account)

    def _may_use_room(self, queue: FairQueue, tenant_state: TenantState, demand: Demand, now: float) -> bool:
        """Whether a slot is free beyond those kept for others, or for this tenant."""
        free, slots = self._capacity.room(demand.model, now)
        kept = self._kept(slots)
        return free - kept >= min(demand.slots, slots - kept) or queue.is_within_share(
            tenant_state, slots, more=demand.slots
        )

    def _has_room_for(self, demand: Demand, now: float) -> bool:
        """Whether all of a batch has room; one that is larger than all slots together takes all of them."""
        free, slots = self._capacity.room(demand.model, now)
        return free >= min(demand.slots, slots)

    def _kept(self, slots: int) -> int:
        return math.ceil(slots * self.settings.headroom) if slots > 1 else 0

    def _next(self, queue: FairQueue, now: float) -> Ticket | None:
        rooms: dict[str, tuple[int, int]] = {}
        num_granted = self._granted.total()
        is_shared = len(queue.tenants) > 1
        is_kept_for_batch = False

        def can_go(tenant: str, model: str, wanted: int) -> bool:
            nonlocal is_kept_for_batch
            room = rooms.get(model)
            if room is None:
                room = rooms[model] = self._capacity.room(model, now)
            free, slots = room[0] - num_granted, room[1]
            if is_kept_for_batch or free <= 0:
                goes = False
            elif not is_shared or queue.is_within_share(queue.tenants[tenant], slots):
                goes = free >= min(wanted, slots)
            else:
                kept = self._kept(slots)
                goes = free - kept >= min(wanted, max(1, slots - kept))
            if not goes and free > 0 and wanted > 1:
                # It is next, but lacks room: what becomes free is kept for it, or small requests would
                # take each slot before a batch has all of its own.
                is_kept_for_batch = True
            if not goes and room[0] > 0 and self._granted[model] < num_granted:
                self._held_back = True
            return goes

        return queue.next(can_go, now)

    def _take_up(self, ticket: Ticket) -> None:
        """The slots granted to the ticket are taken by it, or given back."""
        self._granted[ticket.model] -= ticket.slots
        if not self._granted[ticket.model]:
            del self._granted[ticket.model]
        if self._held_back and not self._granted:
            # A slot was kept free for a request to another model, which may have gone to another engine.
            self._held_back = False
            asyncio.get_running_loop().call_soon(self.dispatch)

    def _enqueue(self, ticket: Ticket, now: float) -> None:
        ticket.queue.wait(ticket, now)
        ticket.waits = True
        if not ticket.demand.is_part:
            self._queued.setdefault(ticket.tenant, OrderedDict())[ticket] = None
            self._num_requests += 1
        self._num_waiting += 1
        _count(self._waiting, ticket.model, 1)

    def _withdraw(self, ticket: Ticket) -> None:
        """Take a ticket out that waits; others may go now that it is no longer in their way."""
        ticket.queue.withdraw(ticket, time.perf_counter())
        self._forget(ticket)

    def _forget(self, ticket: Ticket) -> None:
        ticket.waits = False
        if not ticket.demand.is_part:
            tickets = self._queued[ticket.tenant]
            del tickets[ticket]
            self._num_requests -= 1
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

    def _leaves_at(self, demand: Demand, now: float) -> float:
        """When it gives up."""
        deadline = math.inf if demand.deadline is None else demand.deadline
        return min(deadline, now + self.settings.max_wait_s)

    def _refuse_early(self, queue: FairQueue, demand: Demand, now: float) -> None:
        """Refuse what would wait in vain once it is ready, behind those that wait and those announced before it."""
        free = 0 if queue.num_waiting else self._capacity.room(demand.model, now)[0]
        announced = queue.num_announced - free
        if announced < 0:
            return  # there is room for all of them
        own = self._num_queued(demand.tenant) + min(queue.announced_by(demand.tenant), announced)
        wait_s = _wait_s(queue, demand, now)
        self._check(demand, own, wait_s, self._leaves_at(demand, now) - now)
        if self._num_requests + announced >= self.settings.max_queued:
            self._most_queued(demand, own, wait_s)

    def _num_queued(self, tenant: str) -> int:
        return len(self._queued.get(tenant, ()))

    def _check(self, demand: Demand, own: int, wait_s: float, time_left_s: float) -> None:
        """Refuse what would wait in vain for `wait_s`, behind `own` of the same tenant."""
        has_deadline = demand.deadline is not None
        if time_left_s <= 0 or (has_deadline and wait_s > time_left_s):
            self._refuse(self._too_late(True))
        retry = _retry_after(wait_s)
        if own >= self.settings.max_queued_per_tenant and not demand.is_part:
            self._refuse(QueueFull(f"{own} requests of this tenant wait already. Try again later.", headers=retry))
        if wait_s > time_left_s:
            message = f"Requests wait about {wait_s:.0f} s just now, which is too long. Try again later."
            self._refuse(self._full(own)(message, headers=retry))

    def _full(self, own: int) -> type[QueueFull | Overloaded]:
        """Whose doing a full queue is: the tenant's, with `own` waiting more than others on average, or everyone's."""
        return QueueFull if own * len(self._queued) > self._num_requests else Overloaded

    def _make_room(self, demand: Demand, own: int, wait_s: float) -> None:
        """The tenant with most waiting gives up its newest, least urgent request, or this one is refused."""
        tickets = self._most_queued(demand, own, wait_s)
        newest = min(reversed(tickets), key=lambda ticket: ticket.priority)
        message = "The queue is full, and this tenant has most waiting. Try again later."
        self._drop(newest, QueueFull(message, headers=_retry_after(wait_s)))

    def _most_queued(self, demand: Demand, own: int, wait_s: float) -> OrderedDict[Ticket, None]:
        """What waits of the tenant with most waiting, in a full queue; raises where that is the demand's own."""
        none: tuple[float, OrderedDict[Ticket, None]] = (0.0, OrderedDict())
        share, tickets = max(
            ((len(tickets) / next(iter(tickets)).tenant_state.weight, tickets) for tickets in self._queued.values()),
            key=lambda pair: pair[0],
            default=none,
        )
        if share <= (own + 1) / demand.weight:
            self._refuse(self._full(own)("The queue is full. Try again later.", headers=_retry_after(wait_s)))
        return tickets

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


def _count(counts: dict[str, int], model: str, by: int) -> None:
    number = counts.get(model, 0) + by
    # A zero is worth showing, but not for every name that clients of an engine without a list of models make up.
    if number or len(counts) <= _MAX_IDLE_MODELS:
        counts[model] = number
    else:
        counts.pop(model, None)


def _wait_s(queue: FairQueue, demand: Demand, now: float) -> float:
    """About how long it would wait, in seconds; 0 while that cannot be told."""
    rate = queue.rate.per_second(now)
    return queue.num_ahead(demand.tenant, demand.weight, demand.priority) / rate if rate else 0.0


def _retry_after(wait_s: float) -> tuple[tuple[bytes, bytes], ...]:
    seconds = max(_RETRY_AT_LEAST_S, min(_RETRY_AT_MOST_S, math.ceil(wait_s)))
    return ((b"retry-after", str(seconds).encode()),)
