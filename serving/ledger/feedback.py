"""What users say of answers: one row for each request, replaced when they say something else.

The row holds whose answer it was and which checkpoint gave it, so that ratings can be compared between versions, and
corrections be learned from. Texts are there only where the tenant lets them be kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import BigInteger, Boolean, Column, Engine, Float, Integer, Select, String, Table, Text, func, select
from sqlalchemy.exc import IntegrityError

from serving.database import explained, metadata
from serving.ledger.record import requests

feedback = Table(
    "feedback",
    metadata,
    # Readers that follow the table keep the last id they saw; a changed row keeps its own.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("request_id", String(64), nullable=False, unique=True),
    Column("tenant", String(64), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("model", Text, nullable=False),
    Column("manifest", String(71), nullable=False),
    Column("created_at", Float(53), nullable=False, index=True),
    Column("updated_at", Float(53), nullable=False),
    Column("rating", Float(53)),
    Column("verified", Boolean),
    Column("reason", Text),
    Column("correction", Text),
    Column("messages", Text),
    Column("answer", Text),
)


class RatedRequest(NamedTuple):
    """A request as its feedback needs it."""

    request_id: str
    model: str
    """As served."""
    receipt: str | None
    """What its receipt is made from, where it has one."""


class Texts(msgspec.Struct, frozen=True):
    """What is kept only where the tenant allows it."""

    reason: str | None = None
    correction: str | None = None
    """The answer as it should have been."""
    messages: str | None = None
    """The conversation that was answered, as JSON."""
    answer: str | None = None


class Feedback(msgspec.Struct, frozen=True):
    """One row. Fields stand in the order of the table's columns; times are Unix seconds."""

    id: int
    request_id: str
    tenant: str
    key_id: str
    model: str
    manifest: str
    """Digest of the checkpoint that answered; empty: its engine announced none, or receipts are off."""
    created_at: float
    updated_at: float
    rating: float | None = None
    """From -1, bad, to 1, good."""
    verified: bool | None = None
    """Whether messages and answer are those of the receipt; None: there are none, or there is nothing to compare."""
    reason: str | None = None
    correction: str | None = None
    messages: str | None = None
    answer: str | None = None


class FeedbackFilter(NamedTuple):
    """Which feedback: of one tenant or model or of all, first given from a moment up to, not including, another."""

    tenant: str | None = None
    model: str | None = None
    since: float | None = None
    until: float | None = None

    def of(self, query: Select[Any]) -> Select[Any]:
        """`query` over this feedback only."""
        if self.tenant is not None:
            query = query.where(feedback.c.tenant == self.tenant)
        if self.model is not None:
            query = query.where(feedback.c.model == self.model)
        if self.since is not None:
            query = query.where(feedback.c.created_at >= self.since)
        return query if self.until is None else query.where(feedback.c.created_at < self.until)


def rated_request(engine: Engine, request_id: str, tenant: str) -> RatedRequest | None:
    """A tenant's own request; None: it has none of this id, whoever else has.

    Raises:
        DatabaseError: the database cannot be read.
    """
    query = select(requests.c.request_id, requests.c.model, requests.c.receipt).where(
        requests.c.request_id == request_id, requests.c.tenant == tenant
    )
    with explained(engine), engine.connect() as connection:
        row = connection.execute(query).first()
    return None if row is None else RatedRequest(*row)


def give_feedback(engine: Engine, made: Feedback) -> Feedback:
    """Put a row into the place of what was said of its request before; its id and first moment stay.

    `made.id` and `made.created_at` are not looked at. Durable when this returns.

    Raises:
        DatabaseError: it cannot be written.
    """
    now = time.time()
    values = {name: value for name, value in msgspec.structs.asdict(made).items() if name not in ("id", "created_at")}
    values["updated_at"] = now
    of_request = feedback.c.request_id == made.request_id

    def write() -> Feedback:
        with engine.begin() as connection:
            if not connection.execute(feedback.update().where(of_request).values(**values)).rowcount:
                connection.execute(feedback.insert().values(**values, created_at=now))
            return Feedback(*connection.execute(select(feedback).where(of_request)).one())

    with explained(engine):
        return _again_where_another_was_first(write)


def list_feedback(
    engine: Engine, selection: FeedbackFilter, after: int = 0, limit: int = 500, newest_first: bool = False
) -> Sequence[Feedback]:
    """Rows behind `after`, in the order of their ids; or with `newest_first` before it (0: the newest).

    Raises:
        DatabaseError: the database cannot be read.
    """
    query = selection.of(select(feedback)).limit(limit)
    if newest_first:
        query = query.order_by(feedback.c.id.desc())
        query = query.where(feedback.c.id < after) if after else query
    else:
        query = query.order_by(feedback.c.id).where(feedback.c.id > after)
    with explained(engine), engine.connect() as connection:
        return [Feedback(*row) for row in connection.execute(query)]


class RatingSum(NamedTuple):
    """How one checkpoint was rated under one name."""

    model: str
    manifest: str
    num_ratings: int
    mean: float


def rating_sums(engine: Engine, selection: FeedbackFilter) -> list[RatingSum]:
    """Ratings by model and checkpoint.

    Raises:
        DatabaseError: the database cannot be read.
    """
    groups = (feedback.c.model, feedback.c.manifest)
    query = selection.of(select(*groups, func.count(), func.avg(feedback.c.rating)))
    with explained(engine), engine.connect() as connection:
        rows = connection.execute(query.where(feedback.c.rating.is_not(None)).group_by(*groups).order_by(*groups))
        return [RatingSum(*row) for row in rows]


def _again_where_another_was_first(write: Callable[[], Feedback]) -> Feedback:
    """Two that rate one request at once both find no row: the second's insert then becomes an update."""
    try:
        return write()
    except IntegrityError:
        return write()
