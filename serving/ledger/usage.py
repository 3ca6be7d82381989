"""What was used, by tenant, key, model or day: summed by the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Engine, Select, String, cast, func, select
from sqlalchemy.exc import SQLAlchemyError

from serving.database import DatabaseError, explain
from serving.ledger.record import requests

Group = Literal["tenant", "key", "model", "day"]
GROUPS: tuple[Group, ...] = ("tenant", "key", "model", "day")


class Usage(NamedTuple):
    """One row of a report; `group` holds the values in the order asked for."""

    group: tuple[str, ...]
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_nanos: int


class RequestFilter(NamedTuple):
    """Which requests count: of one tenant or of all, from a moment up to, not including, another (Unix seconds)."""

    since: float | None = None
    until: float | None = None
    tenant: str | None = None

    def of(self, query: Select[Any]) -> Select[Any]:
        """`query` over these requests only."""
        if self.since is not None:
            query = query.where(requests.c.created_at >= self.since)
        if self.until is not None:
            query = query.where(requests.c.created_at < self.until)
        return query if self.tenant is None else query.where(requests.c.tenant == self.tenant)


def usage(engine: Engine, by: Sequence[Group], selection: RequestFilter = RequestFilter()) -> list[Usage]:  # noqa: B008 (immutable)
    """Sums for each combination of `by`, in their order; days are UTC, `YYYY-MM-DD`.

    Raises:
        DatabaseError: the database cannot be read.
    """
    groups = [_expression(engine, group) for group in by]
    sums = [
        func.count(),
        func.sum(requests.c.prompt_tokens),
        func.sum(requests.c.completion_tokens),
        func.sum(requests.c.cost_nanos),
    ]
    columns: list[ColumnElement[Any]] = [*groups, *sums]
    query = selection.of(select(*columns)).group_by(*groups).order_by(*groups)
    try:
        with engine.connect() as connection:
            rows = connection.execute(query).all()
    except SQLAlchemyError as error:
        raise DatabaseError(explain(engine, error)) from error
    width = len(groups)
    return [Usage(tuple(row[:width]), *(int(value or 0) for value in row[width:])) for row in rows]


def _expression(engine: Engine, group: Group) -> ColumnElement[str]:
    if group == "day":
        if engine.dialect.name == "sqlite":
            return cast(func.date(requests.c.created_at, "unixepoch"), String)
        return func.to_char(func.timezone("UTC", func.to_timestamp(requests.c.created_at)), "YYYY-MM-DD")
    columns = {"tenant": requests.c.tenant, "key": requests.c.key_id, "model": requests.c.model}
    return columns[group]
