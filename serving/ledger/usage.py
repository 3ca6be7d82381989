"""What was used, by tenant, key, model or day: from sums of days and hours, and of the requests only the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, floor
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    Subquery,
    Table,
    cast,
    func,
    literal,
    select,
    union_all,
)

from serving.database import Reader
from serving.ledger.record import requests
from serving.ledger.rollup import SPANS, model_name, rolled_up_to

Group = Literal["tenant", "key", "model", "day"]
GROUPS: tuple[Group, ...] = ("tenant", "key", "model", "day")
_SUMS = ("requests", "prompt_tokens", "completion_tokens", "cost_nanos")


class Usage(NamedTuple):
    """One row of a report; `group` holds the values in the order asked for."""

    group: tuple[str, ...]
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_nanos: int


class RequestFilter(NamedTuple):
    """Which requests count: of one tenant, key or all, from a moment up to, not including, another (Unix seconds)."""

    since: float | None = None
    until: float | None = None
    tenant: str | None = None
    key: str | None = None

    def of(self, query: Select[Any]) -> Select[Any]:
        """`query` over these requests only."""
        return self.owned(query, requests).where(*_between(requests.c.created_at, self.since, self.until))

    def owned(self, query: Select[Any], table: Table) -> Select[Any]:
        """`query` over the rows of this tenant and key only."""
        if self.tenant is not None:
            query = query.where(table.c.tenant == self.tenant)
        return query if self.key is None else query.where(table.c.key_id == self.key)


def usage(reader: Reader, by: Sequence[Group] = (), selection: RequestFilter = RequestFilter()) -> list[Usage]:  # noqa: B008 (immutable)
    """Sums for each combination of `by`, in their order; days are UTC, `YYYY-MM-DD`. None of `by`: one row of all,
    where there are any.

    Exact whatever is summed up already. Models whose names begin with the same 255 characters count as one. What it
    reads does not grow with the ledger where `since` and `until` are full hours; else it is an hour's requests more.

    Raises:
        ReadTimeout, DatabaseError: the database is not read in time, or not at all.
    """
    with reader.connect() as connection:
        parts = union_all(*_parts(connection, selection)).subquery()
        groups = [_label(connection, group, parts) for group in by]
        sums = [func.sum(parts.c[name]) for name in _SUMS]
        rows = connection.execute(select(*groups, *sums).group_by(*groups).order_by(*groups)).all()
    width = len(by)
    return [Usage(tuple(row[:width]), *(int(value or 0) for value in row[width:])) for row in rows if row[width]]


def _parts(connection: Connection, selection: RequestFilter) -> Iterator[Select[Any]]:
    """The rows to add up: whole days, hours and requests at both ends of these, and requests that no sum has yet."""
    up_to = rolled_up_to(connection)
    spans = [(selection.since, selection.until)]
    for table, span_s in SPANS:
        begin = next(iter(table.c))
        columns = (begin.label("begin"), *(table.c[name] for name in ("tenant", "key_id", "model", *_SUMS)))
        ends: list[tuple[float | None, float | None]] = []
        for since, until in spans:
            first = None if since is None else ceil(since / span_s) * span_s
            last = None if until is None else floor(until / span_s) * span_s
            yield selection.owned(select(*columns), table).where(*_between(begin, first, last))
            ends += _ends(since, until, first, last)
        spans = ends
    tokens_and_cost = (requests.c[name] for name in _SUMS[1:])
    single = selection.owned(
        select(requests.c.created_at, requests.c.tenant, requests.c.key_id, model_name(), literal(1), *tokens_and_cost),
        requests,
    )
    for since, until in spans:
        yield single.where(requests.c.id <= up_to, *_between(requests.c.created_at, since, until))
    yield single.where(requests.c.id > up_to, *_between(requests.c.created_at, selection.since, selection.until))


def _ends(
    since: float | None, until: float | None, first: int | None, last: int | None
) -> Iterator[tuple[float | None, float | None]]:
    """What lies between `since` and `until` outside the whole spans from `first` to `last`."""
    if first is not None and last is not None and first > last:
        yield since, until
        return
    if since != first:
        yield since, first
    if until != last:
        yield last, until


def _between(column: ColumnElement[Any], begin: float | None, end: float | None) -> list[ColumnElement[bool]]:
    bounds = [] if begin is None else [column >= begin]
    return bounds if end is None else [*bounds, column < end]


def _label(connection: Connection, group: Group, parts: Subquery) -> ColumnElement[str]:
    if group == "day":
        if connection.dialect.name == "sqlite":
            return cast(func.date(parts.c.begin, "unixepoch"), String)
        return func.to_char(func.timezone("UTC", func.to_timestamp(parts.c.begin)), "YYYY-MM-DD")
    columns: dict[Group, ColumnElement[str]] = {
        "tenant": parts.c.tenant,
        "key": parts.c.key_id,
        "model": parts.c.model,
    }
    return columns[group]
