"""The Redis or Valkey that counts limits and budgets for all replicas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError

from serving.doctor.clock import check_clock
from serving.doctor.finding import Finding, error, warning
from serving.identity.limits.redis_calls import connect_lazily
from serving.settings import Settings

_WAIT_S = 3.0
_WHY = "each gateway counts alone, so replicas together let through as many times the limits as there are of them"


def check_limits(settings: Settings) -> Iterator[Finding]:
    """`identity.limits_url`; nothing where it is unset."""
    if settings.identity.limits_url is not None:
        yield from asyncio.run(_checked(settings, settings.identity.limits_url.get_secret_value()))


async def _checked(settings: Settings, url: str) -> list[Finding]:
    findings: list[Finding] = []
    try:
        client = connect_lazily(url, connect_timeout_s=_WAIT_S)
    except ValueError:
        wrong = "identity.limits_url is not a Redis URL"
        return [error(wrong, "the gateway does not start", "write it as redis://USER:PASSWORD@HOST:6379/0")]
    try:
        async with asyncio.timeout(_WAIT_S):
            findings.extend([finding async for finding in _server(client, settings)])
    except AuthenticationError:
        findings.append(
            error("Redis refuses the user or password of identity.limits_url", _WHY, "correct identity.limits_url")
        )
    except TimeoutError:
        findings.append(
            error(f"Redis does not answer within {_WAIT_S:g} s", _WHY, "look at the server's load and the network")
        )
    except (RedisError, OSError) as failure:
        reason = "it cannot be reached" if isinstance(failure, OSError) else str(failure).rstrip(".")
        findings.append(
            error(
                f"Redis at identity.limits_url cannot be used ({type(failure).__name__}): {reason}",
                _WHY,
                "start the server, or correct identity.limits_url and what may reach it",
            )
        )
    finally:
        await client.aclose()
    return findings


async def _server(client: Redis, settings: Settings) -> AsyncIterator[Finding]:
    await client.ping()
    asked_at = time.time()
    seconds, microseconds = await client.time()
    answered_at = time.time()
    for finding in check_clock("Redis", seconds + microseconds / 1e6, asked_at, answered_at):
        yield finding
    timeout_s = settings.identity.limits_timeout_s
    if answered_at - asked_at > timeout_s:
        yield warning(
            f"Redis took {(answered_at - asked_at) * 1000:.0f} ms to answer, longer than identity.limits_timeout_s, "
            f"{timeout_s * 1000:.0f} ms",
            _WHY,
            "put it nearer to the gateways, or raise identity.limits_timeout_s",
        )
    info = await client.info()
    if info.get("role") == "slave":
        yield error("Redis is a replica that can only be read", _WHY, "name the primary in identity.limits_url")
    evicts = info.get("maxmemory_policy", "noeviction")
    if evicts != "noeviction":
        yield warning(
            f"Redis throws entries out when its memory is full (maxmemory-policy {evicts})",
            "the minutes of whom it forgets begin anew, so more is let through than the limits allow",
            "set maxmemory-policy to noeviction",
        )
