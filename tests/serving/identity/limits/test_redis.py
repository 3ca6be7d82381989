"""Limits shared through a real Redis or Valkey, which is killed, stopped and brought back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from loadtests.tools.services import Redis
from serving.identity import Amount, Budget, Lease, Limiter, Limits, Principal, Refusal
from serving.identity.limits.memory import MemoryStore
from serving.identity.limits.redis_store import RedisStore

pytestmark = pytest.mark.services
BUDGET = Budget("tenant", "acme", "total", 10_000)
SPENDER = Principal("key_1", "acme", budgets=(BUDGET,))
ACCOUNT = "budget:tenant:acme:total"


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with Redis.run() as running:
        yield running


class Replica:
    """The limiter of one gateway."""

    def __init__(self, url: str, **options: float) -> None:
        self.degraded: list[bool] = []
        self.redis = RedisStore(url, MemoryStore(), on_degraded=self.degraded.append, **{"timeout_s": 0.5, **options})
        self.limiter = Limiter(redis=self.redis)

    async def ask(self, principal: Principal, nanos: int = 0, least: int | None = None) -> Lease | Refusal:
        amount = Amount(1, nanos, nanos if least is None else least)
        decision = self.limiter.acquire_nowait(principal, amount)
        return decision if decision is not None else await self.limiter.acquire(principal, amount)

    async def grant(self, principal: Principal, nanos: int = 0) -> Lease:
        decision = await self.ask(principal, nanos)
        assert isinstance(decision, Lease), decision
        return decision


@asynccontextmanager
async def replicas(server: Redis, count: int, **options: float) -> AsyncIterator[list[Replica]]:
    """Gateways on an empty server."""
    if server.process is None:
        server.start()
    made = [Replica(server.url, **options) for _ in range(count)]
    await made[0].redis._client.flushall()
    for replica in made:
        await replica.limiter.start()
    try:
        yield made
    finally:
        for replica in made:
            await replica.limiter.stop()


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.01)


async def settled(replica: Replica) -> None:
    """Everything that this replica has settled is at the server: an answer came after it."""
    decision = await replica.ask(Principal("probe", "probe", limits=Limits(concurrency=1000)))
    assert isinstance(decision, Lease)
    decision.release()


async def test_replicas_share_every_limit(server: Redis) -> None:
    principal = Principal("k", "t", limits=Limits(requests_per_minute=3, tokens_per_minute=1000, concurrency=2))
    async with replicas(server, 2) as (one, other):
        first = await one.grant(principal)
        await other.grant(principal)
        full = await one.ask(principal)
        first.settle(900)
        await settled(one)
        third = await other.grant(principal)
        third.release()
        await settled(other)
        used_up = await one.ask(principal)

        assert isinstance(full, Refusal)
        assert (full.limit, full.whose) == ("concurrency", "key")
        headers = dict(third.headers)
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert 90 <= int(headers["x-ratelimit-remaining-tokens"]) <= 120
        assert isinstance(used_up, Refusal)
        assert used_up.limit == "requests"
        assert used_up.retry_after_s is not None
        assert 15 < used_up.retry_after_s <= 20
        assert one.redis._local.open_requests("key:k") == 0


async def test_replicas_count_every_sequence(server: Redis) -> None:
    principal = Principal("k", "t", limits=Limits(requests_per_minute=10, concurrency=4))
    async with replicas(server, 2) as (one, other):
        lease = await one.limiter.acquire(principal, Amount(1, sequences=3))
        refusal = await other.limiter.acquire(principal, Amount(1, sequences=2))
        never = await other.limiter.acquire(principal, Amount(1, sequences=5))
        assert isinstance(lease, Lease)
        lease.settle(1)
        await settled(one)
        again = await other.limiter.acquire(principal, Amount(1, sequences=4))

        assert dict(lease.headers)["x-ratelimit-remaining-requests"] == "7"
        assert isinstance(refusal, Refusal)
        assert (refusal.limit, refusal.code) == ("concurrency", "rate_limit_exceeded")
        assert isinstance(never, Refusal)
        assert never.code == "exceeds_limit"
        assert isinstance(again, Lease)
        again.release()


async def test_replicas_never_overspend_a_budget_together(server: Redis) -> None:
    async with replicas(server, 3) as gateways:
        spent = 0

        async def client(number: int) -> None:
            nonlocal spent
            for _ in range(20):
                decision = await gateways[number % 3].ask(SPENDER, 100)
                if isinstance(decision, Lease):
                    await asyncio.sleep(0)
                    spent += 70
                    decision.settle(1, 70)

        await asyncio.gather(*(client(number) for number in range(60)))
        for gateway in gateways:
            await settled(gateway)
        client_ = gateways[0].redis._client
        fields = await client_.hgetall(f"{{signet}}:{ACCOUNT}")

        assert 10_000 - 100 < spent <= 10_000
        assert int(fields[b"s"]) == spent
        assert not [name for name in fields if name.startswith(b"h:")], "nothing is reserved any more"


async def test_one_that_leaves_while_it_waits_holds_nothing(server: Redis) -> None:
    principal = Principal("k", "t", limits=Limits(concurrency=50))
    async with replicas(server, 1) as (gateway,):
        for _ in range(5):
            tasks = [asyncio.create_task(gateway.ask(principal)) for _ in range(20)]
            for rounds in range(20):
                await asyncio.sleep(0)
                tasks[rounds].cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Lease):
                    outcome.release()
        await settled(gateway)

        held = await gateway.redis._client.hgetall("{signet}:key:k")
        assert not [name for name in held if name.startswith(b"h:")]
        assert gateway.limiter.open_requests("key:k") == 0


async def test_when_the_server_is_killed_local_limits_go_on_and_come_back(server: Redis) -> None:
    principal = Principal("k", "t", limits=Limits(concurrency=3))
    async with replicas(server, 2, lease_s=2.0) as (one, other):
        kept = await one.grant(principal)
        await one.grant(SPENDER, 4000)
        (await one.grant(SPENDER, 5000)).settle(1, 5000)
        await settled(one)
        server.kill()

        alone = [await one.ask(principal) for _ in range(3)]
        over = await one.ask(SPENDER, 2000)
        second = await other.grant(principal)

        assert [type(decision) for decision in alone] == [Lease, Lease, Refusal]
        assert dict(alone[0].headers)["x-signet-degraded"] == "limits"
        assert isinstance(over, Refusal), "what was spent and reserved before is known"
        assert one.degraded == other.degraded == [True]
        assert one.limiter.acquire_nowait(principal, Amount(1)) is not None, "no more waiting for a server that is gone"

        for lease in alone[:2]:
            lease.release()
        server.start()
        await until(lambda: one.redis.live and other.redis.live)

        assert one.degraded == other.degraded == [True, False]
        third = await one.grant(principal)
        assert "x-signet-degraded" not in dict(third.headers)
        assert isinstance(await other.ask(principal), Refusal), "what each held was registered again"
        kept.release()
        await settled(one)
        second.release()
        third.release()
        await settled(one)
        await settled(other)
        assert not [n for n in await one.redis._client.hgetall("{signet}:key:k") if n.startswith(b"h:")]


async def test_a_hanging_server_costs_one_short_wait(server: Redis) -> None:
    principal = Principal("k", "t", limits=Limits(concurrency=100))
    async with replicas(server, 1, timeout_s=0.05) as (gateway,):
        await gateway.grant(principal)
        server.signal(signal.SIGSTOP)
        started = time.monotonic()
        await asyncio.gather(*(gateway.grant(principal) for _ in range(50)))
        waited = time.monotonic() - started
        server.signal(signal.SIGCONT)

        assert waited < 0.5
        assert gateway.degraded == [True]
        await until(lambda: gateway.redis.live)
        assert gateway.degraded == [True, False]


async def test_money_spent_while_the_server_was_gone_is_told_to_it(server: Redis) -> None:
    async with replicas(server, 1, timeout_s=0.05) as (gateway,):
        (await gateway.grant(SPENDER, 100)).settle(1, 100)
        await settled(gateway)
        server.signal(signal.SIGSTOP)
        (await gateway.grant(SPENDER, 300)).settle(1, 300)
        server.signal(signal.SIGCONT)
        await until(lambda: gateway.redis.live)
        await settled(gateway)

        fields = await gateway.redis._client.hgetall(f"{{signet}}:{ACCOUNT}")
        # A reservation that timed out may have reached the server under this gateway's old name, which is void.
        assert int(fields[b"s"]) == 400


async def test_a_server_that_is_not_there_at_the_start_is_waited_for_behind(server: Redis) -> None:
    if server.process is None:
        server.start()
    server.kill()
    gateway = Replica(server.url)
    await gateway.limiter.start()
    try:
        assert isinstance(await gateway.ask(Principal("k", "t", limits=Limits(5))), Lease)
        server.start()
        await until(lambda: gateway.redis.live)
        assert gateway.degraded == [True, False]
    finally:
        await gateway.limiter.stop()


HOLD = """
import asyncio, sys
from serving.identity import Amount, Budget, Limiter, Limits, Principal
from serving.identity.limits.memory import MemoryStore
from serving.identity.limits.redis_store import RedisStore
async def main():
    limiter = Limiter(redis=RedisStore(sys.argv[1], MemoryStore(), timeout_s=1, lease_s=1))
    await limiter.start()
    budget = Budget("tenant", "acme", "total", 10000)
    principal = Principal("key_1", "acme", limits=Limits(concurrency=10), budgets=(budget,))
    leases = [await limiter.acquire(principal, Amount(1, 1000, 1000)) for _ in range(10)]
    print("holding", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_what_a_killed_gateway_held_comes_back(server: Redis) -> None:
    principal = Principal("key_1", "acme", limits=Limits(concurrency=10), budgets=(BUDGET,))
    async with replicas(server, 1) as (gateway,):
        command = [sys.executable, "-c", HOLD, server.url]
        holder = await asyncio.to_thread(subprocess.Popen, command, stdout=subprocess.PIPE, text=True)
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == "holding\n"
        started = time.monotonic()
        while time.monotonic() - started < 1.5:
            assert isinstance(await gateway.ask(principal, 1000), Refusal), "its lease is renewed while it lives"
            await asyncio.sleep(0.1)
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
        deadline = time.monotonic() + 5
        while isinstance(await gateway.ask(principal, 10_000), Refusal):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
