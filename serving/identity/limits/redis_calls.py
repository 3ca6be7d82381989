"""What is said to the server that shares limits: script calls, and settlements added up until they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from serving.identity.limits.plan import Amount, Plan
from serving.identity.principal import Limits

# In braces: on a cluster all keys then live on one node, as a script over several of them needs.
PREFIX = "{signet}:"
WORKERS = f"{PREFIX}workers"
SCRIPTS = ("acquire", "settle", "register", "renew", "compare")
Argument = str | int | float


@dataclass(slots=True)
class Call:
    """A script that waits to be sent."""

    script: str
    keys: list[str]
    arguments: list[Argument]
    reply: asyncio.Future[Any]


@dataclass(slots=True)
class Acquire(Call):
    """A request that waits for its decision."""

    plan: Plan
    amount: Amount
    windows: Sequence[int]


@dataclass(slots=True)
class Ended:
    """Settlements that wait to be sent, added up by account."""

    rates: dict[str, tuple[Limits, float, int]] = field(default_factory=dict)
    budgets: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.rates or self.budgets)

    def add_rate(self, account: str, limits: Limits, tokens: float, ended: int) -> None:
        _, before, count = self.rates.get(account, (limits, 0.0, 0))
        self.rates[account] = (limits, before + tokens, count + ended)

    def add_budget(self, account: str, window: int, spent: int, returned: int) -> None:
        before, given = self.budgets.get((account, window), (0, 0))
        self.budgets[account, window] = (before + spent, given + returned)

    def arguments(self, worker: str) -> tuple[list[str], list[Argument]]:
        """Keys and arguments of `settle.lua`."""
        arguments: list[Argument] = [worker, len(self.rates)]
        for limits, tokens, ended in self.rates.values():
            arguments += [limits.requests_per_minute or 0, limits.tokens_per_minute or 0, tokens, -ended]
        for (_, window), (spent, returned) in self.budgets.items():
            arguments += [window, spent, -returned]
        names = [*self.rates, *(account for account, _ in self.budgets)]
        return [PREFIX + name for name in names], arguments


def connect_lazily(url: str, connect_timeout_s: float) -> Redis:
    """A client for any of our kinds of URL."""
    for ours, theirs in (("valkeys://", "rediss://"), ("valkey://", "redis://")):
        if url.startswith(ours):
            url = theirs + url.removeprefix(ours)
    return Redis.from_url(
        url,
        socket_connect_timeout=connect_timeout_s,
        retry=Retry(NoBackoff(), 0),
        client_name="signet-limits",
        max_connections=2,
    )


def script_source(name: str) -> str:
    """The text of one of `SCRIPTS`."""
    return resources.files("serving.identity.limits").joinpath("scripts", f"{name}.lua").read_text()
