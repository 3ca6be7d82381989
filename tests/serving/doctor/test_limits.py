"""Findings about a real Redis."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import closing

import pytest
from redis import Redis as Client

from loadtests.tools.services import Redis
from serving.doctor.limits import check_limits
from serving.settings import Settings
from tests.serving.doctor.examined import said

pytestmark = pytest.mark.services
Make = Callable[..., Settings]


def limited(settings: Make, url: str) -> Settings:
    return settings(identity={"limits_url": url, "limits_timeout_s": 2.0})


def test_a_sound_server_and_none_at_all(settings: Make, redis: Redis) -> None:
    assert said(check_limits(limited(settings, redis.url))) == []
    assert said(check_limits(settings())) == []


def test_a_server_that_evicts_and_one_that_only_reads(settings: Make, redis: Redis) -> None:
    with closing(Client(port=redis.port)) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.replicaof("127.0.0.1", "1")

    assert said(check_limits(limited(settings, redis.url))) == [
        ("error", "Redis is a replica that can only be read"),
        ("warning", "Redis throws entries out when its memory is full (maxmemory-policy allkeys-lru)"),
    ]


def test_a_password_that_is_refused_is_not_told(settings: Make, redis: Redis) -> None:
    with closing(Client(port=redis.port)) as client:
        client.config_set("requirepass", "right")

    wrong = limited(settings, redis.url.replace("://", "://:hunter2@"))
    assert said(check_limits(wrong)) == [("error", "Redis refuses the user or password of identity.limits_url")]


def test_a_server_that_is_gone_or_hangs(settings: Make, redis: Redis) -> None:
    made = limited(settings, redis.url)
    redis.signal(signal.SIGSTOP)
    hangs = said(check_limits(made))
    redis.kill()
    gone = said(check_limits(made))

    assert hangs == [("error", "Redis does not answer within 3 s")]
    assert [severity for severity, _ in gone] == ["error"]
    assert "cannot be used" in gone[0][1]
