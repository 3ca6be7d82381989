from __future__ import annotations

from typing import Any

import pytest

from serving.gateway.admission.priority import deadline_of, priority_of
from serving.gateway.context import RequestContext
from serving.gateway.errors import BadRequest
from tests.support.questions import CONVERSATION, request


def asks(highest: int = 5, header: bytes | None = None, **body: Any) -> RequestContext:
    headers = {} if header is None else {b"x-signet-priority": header}
    return request({"model": "m", "messages": CONVERSATION, **body}, headers=headers, holder={"priority": highest})


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (asks(), 0),
        (asks(highest=-2), -2),
        (asks(priority=3), 3),
        (asks(priority=9), 5),
        (asks(priority=None), 0),
        (asks(header=b"4", priority=1), 4),
        (asks(header=b"-10"), -10),
    ],
    ids=["nothing", "a low key", "the body's", "at most the key's", "null", "the header's before the body's", "lowest"],
)
def test_the_priority_is_what_is_asked_for_and_the_key_allows(context: RequestContext, expected: int) -> None:
    assert priority_of(context, to_engine=False) == expected
    assert "priority" not in context.question.body


def test_an_engine_that_knows_priorities_is_told_in_its_own_sense() -> None:
    context = asks(priority=3)

    priority_of(context, to_engine=True)

    assert context.question.body["priority"] == -3


@pytest.mark.parametrize("more", [{"priority": "high"}, {"priority": 1.5}, {"priority": True}, {"priority": -11}])
def test_what_is_no_priority_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refused:
        priority_of(asks(**more), to_engine=False)
    assert refused.value.param == "priority"


@pytest.mark.parametrize("header", [b"", b"high", b"-11", b"1.5"])
def test_a_header_that_is_no_priority_is_refused(header: bytes) -> None:
    with pytest.raises(BadRequest, match="X-Signet-Priority"):
        priority_of(asks(header=header), to_engine=False)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({b"x-signet-deadline-ms": b"1500"}, 1.5),
        ({b"x-request-timeout": b"30"}, 30.0),
        ({b"x-request-timeout": b"30", b"x-signet-deadline-ms": b"250"}, 0.25),
    ],
)
def test_a_deadline_is_in_seconds(headers: dict[bytes, bytes], seconds: float | None) -> None:
    assert deadline_of(request(headers=headers)) == seconds


@pytest.mark.parametrize("value", [b"0", b"-1", b"nan", b"inf", b"soon", b""])
@pytest.mark.parametrize("name", [b"x-signet-deadline-ms", b"x-request-timeout"])
def test_what_is_no_deadline_is_refused(name: bytes, value: bytes) -> None:
    with pytest.raises(BadRequest, match="positive number"):
        deadline_of(request(headers={name: value}))
