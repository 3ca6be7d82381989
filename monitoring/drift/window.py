"""Reads windows of the ledger. The table is the contract: this room has its own description of it."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    and_,
    case,
    column,
    create_engine,
    event,
    func,
    make_url,
    select,
    table,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from training.registry import DriftReference, Histogram

# The worker is never in a hurry; the ledger's writer holds its lock for milliseconds.
_BUSY_TIMEOUT_MS = 2000
_NUM_BINS = 10

_requests = table(
    "requests",
    column("created_at"),
    column("model"),
    column("status"),
    column("prompt_tokens"),
    column("completion_tokens"),
    column("refused"),
    column("guard_hits"),
)


class LedgerUnreadable(Exception):
    """The ledger is absent, locked or not a ledger; `str()` is one line."""


@dataclass(frozen=True, slots=True)
class Window:
    """The complete answers of one model in a span of time."""

    samples: int
    refused: int
    guarded: int
    """Answers with at least one guard hit."""
    prompt_tokens: Counter[int]
    """Length to how many answers had it."""
    completion_tokens: Counter[int]

    def as_reference(self) -> DriftReference:
        """This window as what later ones are compared with."""
        return DriftReference(
            prompt_tokens=_histogram(self.prompt_tokens),
            completion_tokens=_histogram(self.completion_tokens),
            refusal_rate=self.refused / max(1, self.samples),
            guard_hit_rate=self.guarded / max(1, self.samples),
            samples=self.samples,
        )


class LedgerReader:
    """Reads the ledger at `url`, never writes, and connects anew for each look."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._engine: Engine | None = None

    def read(self, models: Sequence[str], since: float, until: float) -> Window:
        """Answers of `models` (any when empty) that came in from `since` to before `until`, Unix seconds.

        Raises:
            LedgerUnreadable: now; a later call may succeed.
        """
        chosen: list[ColumnElement[bool]] = [
            _requests.c.created_at >= since,
            _requests.c.created_at < until,
            _requests.c.status == 200,
        ]
        if models:
            chosen.append(_requests.c.model.in_(models))
        condition = and_(*chosen)
        with self._reading() as connection:
            refused = func.sum(case((_requests.c.refused, 1), else_=0))
            guarded = func.sum(case((_requests.c.guard_hits > 0, 1), else_=0))
            totals = connection.execute(select(func.count(), refused, guarded).where(condition)).one()
            lengths = []
            for name in ("prompt_tokens", "completion_tokens"):
                length = _requests.c[name]
                rows = connection.execute(select(length, func.count()).where(condition).group_by(length))
                lengths.append(Counter({int(value): int(count) for value, count in rows}))
        samples, num_refused, num_guarded = (int(value or 0) for value in totals)
        return Window(samples, num_refused, num_guarded, *lengths)

    def models(self, since: float, until: float) -> list[str]:
        """Names under which answers were asked for in that span, the most frequent first.

        Raises:
            LedgerUnreadable: as `read`.
        """
        in_span = and_(_requests.c.created_at >= since, _requests.c.created_at < until, _requests.c.status == 200)
        query = select(_requests.c.model).where(in_span).group_by(_requests.c.model).order_by(func.count().desc())
        with self._reading() as connection:
            return list(connection.scalars(query))

    def close(self) -> None:
        """Release the database."""
        if self._engine is not None:
            self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        self._require_file()
        try:
            with self._connected().connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise LedgerUnreadable(f"the ledger {self._url.render_as_string()} cannot be read now: {reason}") from error

    def _require_file(self) -> None:
        # Opening would create an empty file, and a later gateway would find it.
        file = self._url.database if self._url.get_backend_name() == "sqlite" else None
        if file and not Path(file).exists():
            raise LedgerUnreadable(f"there is no ledger at {file} yet: it is made by the first `signet serve`")

    def _connected(self) -> Engine:
        if self._engine is None:
            try:
                self._engine = create_engine(self._url, poolclass=NullPool)
            except ImportError as error:
                raise LedgerUnreadable(f"the ledger's database driver is missing: {error}") from error
            if self._engine.dialect.name == "sqlite":
                event.listen(self._engine, "connect", _only_read)
        return self._engine


def _only_read(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA query_only=ON")
    cursor.close()


def _histogram(lengths: Counter[int]) -> Histogram:
    """About ten bins that hold equally many, as PSI wants them; the edges are lengths that occur."""
    total = lengths.total()
    if not total:
        return Histogram(edges=[0.0, 1.0], counts=[0])
    edges = {0, max(lengths) + 1}
    seen, step = 0, total / _NUM_BINS
    for length in sorted(lengths):
        if math.floor((seen + lengths[length]) / step) > math.floor(seen / step):
            edges.add(length)
        seen += lengths[length]
    ordered = [float(edge) for edge in sorted(edges)]
    return Histogram(edges=ordered, counts=bin_counts(lengths, ordered))


def bin_counts(lengths: Counter[int], edges: Sequence[float]) -> list[int]:
    """How many lengths lie in each bin; what lies outside all of them counts in the nearest."""
    counts = [0] * (len(edges) - 1)
    for length, count in lengths.items():
        position = bisect.bisect_right(edges, length) - 1
        counts[min(max(position, 0), len(counts) - 1)] += count
    return counts
