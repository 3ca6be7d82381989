"""Limits that several gateways share through Redis or Valkey.

Each decision is one Lua script over all accounts of a request, on the server's clock. One task speaks to the server:
while a round trip is under way the next requests and settlements gather, and go together. What a gateway holds stands
under its own name and counts while the name's lease is renewed, so a killed gateway's share comes back by itself.

The embedded store is kept up to date beside it. When the server is gone, or slower than `timeout_s`, that store decides
alone, with what it knows; when the server is back, this gateway joins again with all that it holds.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, cast

from redis.exceptions import NoScriptError, RedisError

from serving.identity.limits.lease import Lease, Refusal, Usage, refuse_budget, refuse_rate
from serving.identity.limits.periods import Calendar
from serving.identity.limits.plan import Amount, LimitName, Plan
from serving.identity.limits.redis_calls import (
    PREFIX,
    SCRIPTS,
    WORKERS,
    Acquire,
    Argument,
    Call,
    Ended,
    connect_lazily,
    script_source,
)
from serving.identity.limits.store import EmbeddedStore

log = logging.getLogger(__name__)

_RETRY_S = 1.0
_NEVER_QUIET_S = 1e12


class _Unknown(Exception):
    """The server does not know this gateway, or its scripts, any more."""


class RedisStore:
    """The shared store of one gateway process, with `local` to fall back on.

    Args:
        url: `redis://`, `rediss://` (TLS), `valkey://`, `valkeys://` or `unix://`.
        on_degraded: told True when the server is lost, False when it is back.
        timeout_s: longest wait for an answer before the gateway goes on alone.
        lease_s: after this long without a sign of life what a gateway holds is free again.
    """

    def __init__(
        self,
        url: str,
        local: EmbeddedStore,
        *,
        on_degraded: Callable[[bool], None] = lambda _: None,
        timeout_s: float = 0.05,
        lease_s: float = 10.0,
        calendar: Calendar | None = None,
    ) -> None:
        self._local = local
        self._on_degraded = on_degraded
        self._timeout_s = timeout_s
        self._lease_s = lease_s
        self._calendar = calendar or Calendar()
        self._client = connect_lazily(url, connect_timeout_s=max(1.0, timeout_s))
        self._sources = {name: script_source(name) for name in SCRIPTS}
        self._digests: dict[str, str] = {}
        self._worker = ""
        self._held: Counter[str] = Counter()
        self._calls: list[Call] = []
        self._ended = Ended()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.live = False

    async def start(self) -> None:
        """Connect; a server that is not there yet is waited for behind."""
        try:
            await self._register()
        except (RedisError, OSError, TimeoutError) as error:
            self._lose(error)
        self._tasks = [asyncio.create_task(self._send_gathered()), asyncio.create_task(self._renew())]

    async def stop(self) -> None:
        """Send what is settled, give back the rest and close."""
        # Asked, not only cancelled: a cancellation that meets the client's own clean-up can get lost in it.
        self._stopping = True
        self._wake.set()
        if self._tasks:
            sender, renewer = self._tasks
            renewer.cancel()
            await asyncio.wait([sender], timeout=1.0)
            sender.cancel()
            await asyncio.wait([sender, renewer], timeout=1.0)
        for call in self._calls:
            call.reply.cancel()
        with suppress(RedisError, OSError, TimeoutError):
            if self.live:
                async with asyncio.timeout(1.0):
                    await self._send([], self._ended)
                    await self._client.zrem(WORKERS, self._worker)
        await self._client.aclose()

    def acquire(self, plan: Plan, amount: Amount) -> Lease | Refusal | None:
        """Decide at once where that is possible: while the server is gone. None: `acquire_shared` must be awaited."""
        return None if self.live else self._acquire_alone(plan, amount)

    async def acquire_shared(self, plan: Plan, amount: Amount) -> Lease | Refusal | None:
        """Ask the server; without an answer in time, decide alone. None: a budget must be compared first."""
        if not self.live:
            return self._acquire_alone(plan, amount)
        windows = [self._calendar.window(budget.period) for _, budget in plan.budgets]
        keys = [WORKERS, *(PREFIX + account for account in plan.accounts)]
        arguments: list[Argument] = [self._worker, amount.tokens, amount.nanos, amount.least_nanos]
        arguments += [amount.sequences, len(plan.rates)]
        for _, _, limits in plan.rates:
            arguments += [limits.requests_per_minute or 0, limits.tokens_per_minute or 0, limits.concurrency or 0]
        for (_, budget), window in zip(plan.budgets, windows, strict=True):
            arguments += [window, budget.amount_nanos]
        reply: asyncio.Future[Lease | Refusal | Literal["unseeded"] | None]
        reply = asyncio.get_running_loop().create_future()
        call = Acquire("acquire", keys, arguments, reply, plan, amount, windows)
        self._calls.append(call)
        self._wake.set()
        try:
            decision = await reply
        except asyncio.CancelledError:
            # Granted in the very moment in which the client left.
            if reply.done() and not reply.cancelled() and isinstance(granted := reply.result(), Lease):
                granted.release()
            raise
        if decision == "unseeded":
            return None
        return decision if decision is not None else self._acquire_alone(plan, amount)

    def settle(self, lease: Lease, tokens: int, nanos: int) -> None:
        """End a request: counted here at once, at the server with the next round trip."""
        self._local.settle(lease, tokens, nanos)
        for account, _, limits in lease.plan.rates:
            self._held[account] -= lease.sequences
            self._ended.add_rate(account, limits, tokens - lease.tokens, lease.sequences)
        for (account, _), window in zip(lease.plan.budgets, lease.windows, strict=True):
            self._held[account] -= lease.granted
            self._ended.add_budget(account, window, nanos, lease.granted)
        self._wake.set()

    async def compare_shared(self, account: str, window: int, in_ledger: int, quiet_s: float) -> None:
        """Take over what the ledger says was spent of a budget."""
        self._local.compare(account, window, in_ledger, quiet_s)
        if self.live:
            reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            keys: list[str] = [WORKERS, PREFIX + account]
            self._calls.append(Call("compare", keys, [window, in_ledger, quiet_s], reply))
            self._wake.set()
            await reply

    def _acquire_alone(self, plan: Plan, amount: Amount) -> Lease | Refusal | None:
        decision = self._local.acquire(plan, amount)
        if isinstance(decision, Lease):
            decision.settle_through(self, degraded=True)
            self._hold(decision)
            # Joining tells the server what is held at that moment and clears this; what comes after it is told too.
            for account, _, limits in plan.rates:
                self._ended.add_rate(account, limits, 0.0, -decision.sequences)
            for (account, _), window in zip(plan.budgets, decision.windows, strict=True):
                self._ended.add_budget(account, window, 0, -decision.granted)
        return decision

    def _hold(self, lease: Lease) -> None:
        for account, _, _ in lease.plan.rates:
            self._held[account] += lease.sequences
        for account, _ in lease.plan.budgets:
            self._held[account] += lease.granted

    async def _send_gathered(self) -> None:
        """Send what has gathered, for ever; join again when the server was lost."""
        while not self._stopping:
            await self._wake.wait()
            self._wake.clear()
            if not self.live:
                await self._come_back()
                continue
            calls, ended = self._calls, self._ended
            self._calls, self._ended = [], Ended()
            if not calls and not ended:
                continue
            try:
                async with asyncio.timeout(self._timeout_s):
                    replies = await self._send(calls, ended)
            except Exception as error:
                if not isinstance(error, (RedisError, OSError, TimeoutError, _Unknown)):
                    log.exception("unexpected failure of shared limits")
                self._put_back(ended)
                self._lose(error, calls)
                continue
            for call, reply in zip(calls, replies, strict=True):
                self._answer(call, reply)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 4)
            if self.live:
                reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                self._calls.append(Call("renew", [WORKERS], [self._worker, self._lease_s], reply))
                self._wake.set()
                if await reply == 0:
                    self._lose(_Unknown("its lease ran out"))

    async def _send(self, calls: Sequence[Call], ended: Ended) -> list[Any]:
        """One round trip; settlements first, so that what they give back is there for the others."""
        pipe = self._client.pipeline(transaction=False)
        if ended:
            keys, arguments = ended.arguments(self._worker)
            pipe.evalsha(self._digests["settle"], len(keys), *keys, *arguments)
        for call in calls:
            pipe.evalsha(self._digests[call.script], len(call.keys), *call.keys, *call.arguments)
        replies = await pipe.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, NoScriptError):
                raise _Unknown("it was restarted")
            if isinstance(reply, Exception):
                raise reply
        return replies[1:] if ended else replies

    def _answer(self, call: Call, reply: Any) -> None:
        decision = self._understand(call, reply) if isinstance(call, Acquire) else reply
        if not call.reply.cancelled():
            call.reply.set_result(decision)
        elif isinstance(decision, Lease):
            decision.release()

    def _understand(self, call: Acquire, reply: list[Any]) -> Lease | Refusal | Literal["unseeded"] | None:
        """A reply of `acquire.lua` as a decision; None: the server does not know us, decide alone."""
        plan, what, index = call.plan, reply[0].decode(), int(reply[1]) - 1
        if what == "unknown":
            self._lose(_Unknown("it was restarted, or this gateway's lease ran out"))
            return None
        if what == "unseeded":
            return "unseeded"
        after_rates = 3 + 3 * len(plan.rates)
        usages: tuple[Usage, ...] = tuple(
            (scope.limits, float(reply[3 + 3 * index]), float(reply[4 + 3 * index]))
            for index, scope in enumerate(plan.rates)
        )
        spent = [int(value) for value in reply[after_rates::2]]
        for (account, _), window, nanos in zip(plan.budgets, call.windows, spent, strict=True):
            self._local.compare(account, window, nanos, _NEVER_QUIET_S)
        if what in ("used_up", "reserved"):
            return refuse_budget(plan, index, call.windows[index], what == "used_up", spent[index], usages)
        if what != "granted":
            return refuse_rate(plan, index, cast(LimitName, what), usages, call.amount)
        amount = call.amount
        lease = Lease(self, plan, amount.tokens, int(reply[2]), call.windows, usages, sequences=amount.sequences)
        self._local.book(lease)
        self._hold(lease)
        return lease

    def _lose(self, error: Exception, calls: Sequence[Call] = ()) -> None:
        """Go on alone. Whoever waits for an answer decides by itself now."""
        if self.live or not self._tasks:
            log.warning(
                "limits are no longer shared: this gateway counts alone until Redis is back",
                extra={"reason": _reason(error)},
            )
            self._on_degraded(True)
        self.live = False
        waiting = [*calls, *self._calls]
        self._calls = []
        for call in waiting:
            if not call.reply.done():
                call.reply.set_result(None)
        self._wake.set()

    async def _come_back(self) -> None:
        with suppress(RedisError, OSError, TimeoutError):
            await self._client.connection_pool.disconnect()
        while not self.live and not self._stopping:
            try:
                await self._register()
            except (RedisError, OSError, TimeoutError):
                await asyncio.sleep(_RETRY_S)
        if self.live:
            log.warning("limits are shared again")
            self._on_degraded(False)

    async def _register(self) -> None:
        """Load the scripts and join under a new name, with all that is held now."""
        old, self._worker = self._worker, secrets.token_hex(8)
        async with asyncio.timeout(max(1.0, 4 * self._timeout_s)):
            for name, source in self._sources.items():
                self._digests[name] = str(await self._client.script_load(source))
            # What begins or ends from here on is sent afterwards.
            held = {account: count for account, count in self._held.items() if count > 0}
            self._held = Counter(held)
            ended, self._ended = self._ended, Ended()
            keys = [WORKERS, *(PREFIX + account for account in held)]
            arguments: list[Argument] = [old, self._worker, self._lease_s, *held.values()]
            try:
                await cast(Any, self._client.evalsha(self._digests["register"], len(keys), *keys, *arguments))
            except BaseException:
                self._put_back(ended)
                raise
        for (account, window), (spent, _) in ended.budgets.items():
            self._ended.add_budget(account, window, spent, 0)
        self.live = True
        self._wake.set()

    def _put_back(self, ended: Ended) -> None:
        """Settlements that were not sent, or without an answer: spent twice in doubt, the ledger sets it right."""
        for account, (limits, tokens, count) in ended.rates.items():
            self._ended.add_rate(account, limits, tokens, count)
        for (account, window), (spent, returned) in ended.budgets.items():
            self._ended.add_budget(account, window, spent, returned)


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
