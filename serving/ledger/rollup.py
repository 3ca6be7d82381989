"""Sums of usage by hour and day, kept beside the requests: a report reads these, and of the requests only the newest.

They are added up by whichever process comes first, some seconds after the requests are durable and in a transaction
of its own: a commit waits for no sum, and a gateway of the release before, which knows none, leaves none out. `up_to`
is the id up to which requests are in the sums. It moves in the transaction that adds them, so each is counted once,
whatever is killed. Whoever reads adds the requests behind it, in one snapshot (`usage`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Index,
    Integer,
    Row,
    Select,
    String,
    Table,
    cast,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from serving.database import metadata
from serving.ledger.record import requests

logger = logging.getLogger(__name__)

HOUR_S = 3600
DAY_S = 24 * HOUR_S
# In the sums a model's name is cut here: a key of an index has a largest size, a name as clients write it has none.
MODEL_CHARS = 255
INTERVAL_S = 5.0
# Requests in one transaction: read in a tenth of a second.
CHUNK = 20_000
# Longer than a writer on SQLite sleeps between two tries for the lock: each gets its turn.
PAUSE_S = 0.15
_WRITERS_TIMEOUT_S = 2.0
_WRITERS_POLL_S = 0.005


def _sums(name: str, begin: str) -> Table:
    """A table of sums. `begin` names the column with the Unix time at which the span begins."""
    return Table(
        name,
        metadata,
        Column(begin, BigInteger, primary_key=True, autoincrement=False),
        Column("tenant", String(64), primary_key=True),
        Column("key_id", String(64), primary_key=True),
        Column("model", String(MODEL_CHARS), primary_key=True),
        Column("requests", BigInteger, nullable=False),
        Column("prompt_tokens", BigInteger, nullable=False),
        Column("completion_tokens", BigInteger, nullable=False),
        Column("cost_nanos", BigInteger, nullable=False),
        Index(f"ix_{name}_tenant_{begin}", "tenant", begin),
        Index(f"ix_{name}_key_id_{begin}", "key_id", begin),
    )


usage_days = _sums("usage_days", "day")
usage_hours = _sums("usage_hours", "hour")
SPANS: tuple[tuple[Table, int], ...] = ((usage_days, DAY_S), (usage_hours, HOUR_S))
"""The sums that are kept, with the seconds of their spans; the longest first. UTC's days are whole hours."""

# One row. Requests with an id up to `up_to` are in all sums, all others in none.
usage_rollup = Table(
    "usage_rollup",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("up_to", BigInteger, nullable=False),
)

# Transactions that write requests, by a name that no later one has.
_WRITERS = text(
    "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND relation = 'requests'::regclass "
    "AND mode = 'RowExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def model_name() -> ColumnElement[str]:
    """A request's model, as the sums have it."""
    return func.substr(requests.c.model, 1, MODEL_CHARS, type_=String)


def rolled_up_to(connection: Connection) -> int:
    """The id up to which requests are in the sums."""
    return connection.scalar(select(usage_rollup.c.up_to)) or 0


def roll_up(
    engine: Engine, progress: Callable[[int, int], None] | None = None, stop: threading.Event | None = None
) -> None:
    """Add to the sums all requests that were durable at the call; returns early when another process does.

    Args:
        progress: hears the id that is reached, and the last one.
        stop: ends it after the transaction under way.

    Raises:
        SQLAlchemyError: as the driver has it.
    """
    stop = stop or threading.Event()
    last = settled_id(engine)
    while (reached := _add_chunk(engine, last)) is not None:
        if progress is not None:
            progress(reached, last)
        if reached >= last or stop.wait(PAUSE_S):
            return


def settled_id(engine: Engine) -> int:
    """An id up to which no request can come any more; 0: none can be told just now.

    PostgreSQL gives ids out before it commits, and one transaction may overtake another. Every transaction that may
    hold a smaller id than the newest had locked the table for writing by then: when those are over, none is left.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        newest = connection.scalar(select(func.max(requests.c.id))) or 0
        if engine.dialect.name == "sqlite":  # one writer at a time
            return newest
        deadline = time.monotonic() + _WRITERS_TIMEOUT_S
        writers = set(connection.scalars(_WRITERS))
        while writers:
            if time.monotonic() > deadline:
                return 0
            time.sleep(_WRITERS_POLL_S)
            writers &= set(connection.scalars(_WRITERS))
        return newest


def _add_chunk(engine: Engine, last: int) -> int | None:
    """Add the next requests up to `last`; gives the id reached. None: none is left, or another process adds them."""
    with engine.connect() as connection:
        before = rolled_up_to(connection)
        if before >= last:
            return None
        after = min(before + CHUNK, last)
        hours = connection.execute(_by_hour(connection.dialect.name, before, after)).all()
    # Only what must be one transaction is in it: SQLite lets nobody else write meanwhile.
    with engine.begin() as connection:
        moved = update(usage_rollup).where(usage_rollup.c.up_to == before).values(up_to=after)
        if connection.execute(moved).rowcount != 1:
            return None
        for table, span_s in SPANS:
            if rows := _folded(hours, table, span_s):
                connection.execute(_addition(connection.dialect.name, table), rows)
    return after


def _by_hour(dialect: str, before: int, after: int) -> Select[Any]:
    hours = requests.c.created_at / HOUR_S
    hour = cast(hours if dialect == "sqlite" else func.floor(hours), BigInteger) * HOUR_S
    groups = (hour, requests.c.tenant, requests.c.key_id, model_name())
    sums = (
        func.count(),
        func.sum(requests.c.prompt_tokens),
        func.sum(requests.c.completion_tokens),
        func.sum(requests.c.cost_nanos),
    )
    return select(*groups, *sums).where(requests.c.id > before, requests.c.id <= after).group_by(*groups)


def _folded(hours: Sequence[Row[Any]], table: Table, span_s: int) -> list[dict[str, Any]]:
    """Rows for `table`, whose spans are whole hours."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    for row in hours:
        hour, tenant, key_id, model, *added = tuple(row)
        span = sums.setdefault((hour // span_s * span_s, tenant, key_id, model), [0] * len(added))
        span[:] = [have + int(more) for have, more in zip(span, added, strict=True)]
    names = [column.name for column in table.c]
    return [dict(zip(names, (*key, *values), strict=True)) for key, values in sums.items()]


def _addition(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    added = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    sums = {column.name: column + added.excluded[column.name] for column in table.c if not column.primary_key}
    return added.on_conflict_do_update(index_elements=list(table.primary_key), set_=sums)


class Rollup:
    """A thread that keeps the sums up to date."""

    def __init__(self, engine: Engine, is_ready: Callable[[], bool], interval_s: float = INTERVAL_S) -> None:
        """`is_ready`: whether the database has the tables."""
        self._engine = engine
        self._is_ready = is_ready
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="signet-rollup", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_WRITERS_TIMEOUT_S)

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            try:
                if self._is_ready():
                    roll_up(self._engine, stop=self._stopping)
            except SQLAlchemyError as error:  # the next one adds what this one did not
                logger.debug("usage is not summed up now: %s", error)
