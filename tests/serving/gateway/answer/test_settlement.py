"""The end of one request by itself: recorded once, paid once, counted where no engine has."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from serving.gateway.answer.settle import Settlement, count_by_length
from serving.gateway.context import RequestContext
from serving.gateway.errors import EngineFailed
from serving.gateway.records import Mark
from serving.ledger import LedgerUnavailable, ModelPrice, PriceList, UsageRecord
from tests.support.questions import request


class Deaf:
    """Telemetry that nobody reads."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class Ledger:
    def __init__(self) -> None:
        self.records: list[UsageRecord] = []
        self.is_down = False

    async def commit(self, record: UsageRecord) -> None:
        if self.is_down:
            raise LedgerUnavailable("no disk")
        self.records.append(record)


class Lease:
    headers = ()

    def __init__(self) -> None:
        self.paid: list[tuple[int, int]] = []
        self.released = 0

    def settle(self, tokens: int, nanos: int) -> None:
        self.paid.append((tokens, nanos))

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def answered(**known: Any) -> RequestContext:
    """A request whose answer an engine has counted: 5 and 7 tokens."""
    context = request(engine=SimpleNamespace(name="one", manifests={}), lease=Lease(), **known)
    context.answer.chars = 28
    context.answer.note_usage(5, 7)
    return context


def settlement(context: RequestContext, ledger: Ledger) -> Settlement:
    prices = PriceList({"m": ModelPrice(prompt_per_million="1", completion_per_million="2")})
    return Settlement(context, ledger, Deaf(), Deaf(), prices)  # type: ignore[arg-type]


async def test_a_complete_answer_is_recorded_and_paid(ledger: Ledger) -> None:
    context = answered(stream=True, mark=Mark("kgw", "mk1-0"), finish_reason="stop")

    await settlement(context, ledger).commit()

    [record] = ledger.records
    assert (record.status, record.tenant, record.key_id, record.engine) == (200, "acme", "key_1", "one")
    assert (record.prompt_tokens, record.completion_tokens, record.cost_nanos) == (5, 7, 5 * 1000 + 7 * 2000)
    assert (record.mark_scheme, record.streamed, record.refused) == ("kgw", True, False)
    assert context.lease.paid == [(12, 19_000)]  # type: ignore[union-attr]


@pytest.mark.parametrize("later", ["commit", "fail", "abandon"])
async def test_the_first_end_is_the_end(later: str, ledger: Ledger) -> None:
    context = answered()
    settled = settlement(context, ledger)
    await settled.commit()

    await (settled.fail(EngineFailed("late")) if later == "fail" else getattr(settled, later)())

    assert [record.status for record in ledger.records] == [200]
    assert len(context.lease.paid) == 1  # type: ignore[union-attr]


async def test_nobody_pays_for_an_answer_that_is_not_on_record(ledger: Ledger) -> None:
    context = answered()
    ledger.is_down = True

    with pytest.raises(LedgerUnavailable):
        await settlement(context, ledger).commit()

    assert context.lease.paid == [(12, 0)]  # type: ignore[union-attr]


@pytest.mark.parametrize("end", ["fail", "abandon"])
async def test_an_end_that_nobody_waits_for_is_logged_where_it_cannot_be_recorded(
    end: str, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.is_down = True
    settled = settlement(answered(), ledger)

    with caplog.at_level(logging.ERROR):
        await (settled.fail(EngineFailed("gone")) if end == "fail" else settled.abandon())

    assert [record.message for record in caplog.records] == ["usage not recorded"]


@pytest.mark.parametrize(("end", "status"), [("fail", 502), ("abandon", 499)])
async def test_what_reached_an_engine_is_recorded_however_it_ended(end: str, status: int, ledger: Ledger) -> None:
    settled = settlement(answered(), ledger)

    await (settled.fail(EngineFailed("gone")) if end == "fail" else settled.abandon())

    assert [record.status for record in ledger.records] == [status]


async def test_what_reached_no_engine_leaves_no_record(ledger: Ledger) -> None:
    await settlement(request(), ledger).fail(EngineFailed("gone"))

    assert ledger.records == []


async def test_the_policys_own_answer_is_recorded_without_an_engine(ledger: Ledger) -> None:
    await settlement(request(finish_reason="content_filter", usage_reported=True), ledger).commit()

    [record] = ledger.records
    assert (record.engine, record.refused, record.cost_nanos) == ("", True, 0)


@pytest.mark.parametrize("has_lease", [True, False])
def test_what_was_reserved_is_given_back_on_every_path(has_lease: bool, ledger: Ledger) -> None:
    context = answered()
    lease, context.lease = context.lease, context.lease if has_lease else None

    settlement(context, ledger).close()

    assert lease.released == int(has_lease)  # type: ignore[union-attr]


# Four characters are a token: 40 of a question are 10, 400 of an answer 100.
@pytest.mark.parametrize(
    ("known", "is_whole", "tokens"),
    [
        ({}, True, (10, 100)),
        ({"prompt_tokens": 12}, True, (12, 100)),
        ({"usage_reported": True, "completion_tokens": 90, "counted_chars": 400, "prompt_tokens": 9}, True, (9, 90)),
        ({"usage_reported": True, "completion_tokens": 90, "counted_chars": 360}, False, (10, 100)),
        ({"usage_reported": True, "completion_tokens": 0, "counted_chars": 400}, True, (10, 100)),
        ({"choices": 2, "usage_reported": True, "completion_tokens": 3, "counted_chars": 400}, False, (10, 100)),
        ({"choices": 2, "usage_reported": True, "completion_tokens": 3, "counted_chars": 400}, True, (10, 3)),
        ({"chars": 0}, False, (0, 0)),
        ({"chars": 0, "prompt_tokens": 8}, False, (8, 0)),
        ({"engine": None}, True, (0, 0)),
    ],
    ids=[
        "nothing counted",
        "only the question",
        "all counted",
        "counted in the middle",
        "counted as nothing",
        "one choice of two, cut short",
        "whole, as counted",
        "cut before the first text",
        "counted before the first text",
        "no engine",
    ],
)
def test_what_no_engine_has_counted_is_counted_by_length(
    known: dict[str, Any], is_whole: bool, tokens: tuple[int, int]
) -> None:
    context = request(**{"engine": object(), "prompt_chars": 40, "chars": 400, **known})

    count_by_length(context, is_whole=is_whole)

    assert (context.answer.prompt_tokens, context.answer.completion_tokens) == tokens
