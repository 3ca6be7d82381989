"""Strangers that send as much as they may: the benchmark's own bytes stay below the limits that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.benchmarks import keyless
from loadtests.benchmarks.keyless import MAX_FIELDS, MAX_HEAD, SENT, measure
from serving.gateway.settings import GatewaySettings
from serving.http.settings import HttpSettings


def test_the_limits_are_the_gateways() -> None:

    http, gateway = HttpSettings(), GatewaySettings()
    assert (http.max_header_bytes, http.max_headers) == (MAX_HEAD, MAX_FIELDS)
    assert (gateway.max_body_bytes, gateway.max_other_body_bytes) == (keyless.MAX_BODY, keyless.MAX_OTHER_BODY)


@pytest.mark.parametrize("name", [name for name in SENT if name.startswith("heads")])
def test_unfinished_heads_are_just_below(name: str) -> None:
    sent = SENT[name]()
    assert b"\r\n\r\n" not in sent
    assert len(sent) < MAX_HEAD
    assert sent.count(b"\r\n") <= MAX_FIELDS


@pytest.mark.parametrize("secure", [False, True])
async def test_a_few_strangers_are_measured(tmp_path: Path, secure: bool) -> None:
    cost, statuses = await measure("moderations of 2 MiB, no key", 3, tmp_path, secure)

    assert statuses.total() == 3
    assert set(statuses) <= {"401", "open", "closed"}
    assert cost < 64
