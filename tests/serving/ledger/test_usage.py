"""Reports equal the sums over the requests, however many of them are summed up already."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, insert

from serving.database import Reader, migrate, open_engine
from serving.ledger import UsageRecord
from serving.ledger.record import requests
from serving.ledger.rollup import HOUR_S, SPANS, roll_up, usage_rollup
from serving.ledger.usage import GROUPS, Group, RequestFilter, usage
from tests.support.ledgers import a_record

START = 20_000 * 86_400
MOMENTS = st.one_of(
    st.integers(-30, 60).map(lambda hour: float(START + hour * HOUR_S)),
    st.floats(START - 30 * HOUR_S, START + 60 * HOUR_S),
)
RECORDS = st.builds(
    a_record,
    created_at=MOMENTS,
    tenant=st.sampled_from(["acme", "beta"]),
    key_id=st.sampled_from(["key_1", "key_2"]),
    model=st.sampled_from(["m", "n"]),
    prompt_tokens=st.integers(0, 2**31 - 1),
    completion_tokens=st.integers(0, 9),
    cost_nanos=st.integers(0, 2**50),
)
SELECTIONS = st.builds(
    RequestFilter, st.none() | MOMENTS, st.none() | MOMENTS, st.none() | st.just("acme"), st.none() | st.just("key_2")
)
QUESTIONS = st.tuples(st.lists(st.sampled_from(GROUPS), unique=True), SELECTIONS)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)], scope="module")
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A database with its tables, for many examples."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('usage') / 'signet.db'}"
    else:
        server = request.getfixturevalue("postgres_server")
        server.reset()
        url = server.url
    engine = open_engine(url)
    migrate(engine)
    yield engine
    engine.dispose()


def summed(records: Sequence[UsageRecord], by: Sequence[Group], selection: RequestFilter) -> list[tuple[Any, ...]]:
    """The same in Python."""
    sums: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    since, until, tenant, key = selection
    for record in records:
        begun = record.created_at
        if (since is not None and begun < since) or (until is not None and begun >= until):
            continue
        if tenant not in (None, record.tenant) or key not in (None, record.key_id):
            continue
        day = time.strftime("%Y-%m-%d", time.gmtime(begun))
        values = {"tenant": record.tenant, "key": record.key_id, "model": record.model, "day": day}
        row = sums[tuple(values[group] for group in by)]
        for index, value in enumerate((1, record.prompt_tokens, record.completion_tokens, record.cost_nanos)):
            row[index] += value
    return [(group, *row) for group, row in sorted(sums.items())]


def fill(engine: Engine, records: Sequence[UsageRecord]) -> None:
    if records:
        with engine.begin() as connection:
            connection.execute(insert(requests), [msgspec.structs.asdict(record) for record in records])


@settings(max_examples=60)
@given(st.lists(RECORDS, max_size=12), st.lists(RECORDS, max_size=6), st.lists(QUESTIONS, min_size=1, max_size=6))
def test_a_report_equals_the_sums_over_the_requests(
    prepared: Engine,
    old: list[UsageRecord],
    new: list[UsageRecord],
    questions: list[tuple[list[Group], RequestFilter]],
) -> None:
    with prepared.begin() as connection:
        connection.execute(requests.delete())
        for table, _ in SPANS:
            connection.execute(table.delete())
        connection.execute(usage_rollup.update().values(up_to=0))

    fill(prepared, old)
    roll_up(prepared)
    fill(prepared, new)
    with closing(Reader(prepared.url.render_as_string(hide_password=False))) as reader:
        for by, selection in questions:
            found = [(row.group, *row[1:]) for row in usage(reader, by, selection)]
            assert found == summed([*old, *new], by, selection)
