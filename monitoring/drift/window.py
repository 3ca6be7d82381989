"""Reads windows of the ledger. The table is the contract: this room has its own description of it."""

from __future__ import annotations

import base64
import bisect
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
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

from monitoring.drift.features import Answer
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
    column("id"),
    column("answer_chars"),
    column("mark_scheme"),
    column("ttft_s"),
    column("duration_s"),
    column("finish_reason"),
    column("endpoint"),
    column("receipt"),
)
_feedback = table("feedback", column("id"), column("created_at"), column("model"), column("manifest"), column("rating"))
_ANSWERS = ("chat", "completions", "responses", "messages")
"""Endpoints whose answers a model has written."""
_SETTLED_S = 2.0
"""Rows are numbered before they are committed: one that is younger than this may be seen before one below it."""


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

    def first_row(self, since: float) -> int:
        """Number before that of the first request that came in at `since` or later; 0: there is none.

        Raises:
            LedgerUnreadable: as `read`.
        """
        with self._reading() as connection:
            first = connection.scalar(select(func.min(_requests.c.id)).where(_requests.c.created_at >= since))
        return int(first) - 1 if first else 0

    def answers_after(self, row: int, limit: int, now: float) -> tuple[list[Answer], int]:
        """The complete answers among the next `limit` rows, and the number of the last row that was looked at.

        Raises:
            LedgerUnreadable: as `read`.
        """
        query = select(_requests).where(_requests.c.id > row).order_by(_requests.c.id).limit(limit)
        with self._reading() as connection:
            rows = connection.execute(query).all()
        settled = list(takewhile(lambda found: found.created_at + found.duration_s < now - _SETTLED_S, rows))
        answers = [_answer(found) for found in settled if found.status == 200 and found.endpoint in _ANSWERS]
        return answers, settled[-1].id if settled else row

    def ratings_after(self, row: int, limit: int, now: float) -> tuple[list[Answer], int]:
        """The same of users' ratings, as answers of which nothing else is known.

        Raises:
            LedgerUnreadable: as `read`.
        """
        query = select(_feedback).where(_feedback.c.id > row).order_by(_feedback.c.id).limit(limit)
        with self._reading() as connection:
            rows = connection.execute(query).all()
        settled = list(takewhile(lambda found: found.created_at < now - _SETTLED_S, rows))
        ratings = [
            Answer(found.id, found.created_at, found.model, found.manifest, rating=float(found.rating))
            for found in settled
            if found.rating is not None
        ]
        return ratings, settled[-1].id if settled else row

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


def _answer(row: Row[Any]) -> Answer:
    return Answer(
        row=row.id,
        created_at=row.created_at,
        model=row.model,
        version=_version(row.receipt),
        prompt_tokens=float(row.prompt_tokens),
        completion_tokens=float(row.completion_tokens),
        answer_chars=float(row.answer_chars),
        refused=float(bool(row.refused)),
        guarded=float(row.guard_hits > 0),
        marked=float(bool(row.mark_scheme)),
        truncated=float(row.finish_reason == "length"),
        first_token_s=math.nan if row.ttft_s is None else row.ttft_s,
        duration_s=row.duration_s,
    )


def _version(receipt: str | None) -> str:
    """Digest of the checkpoint in the receipt's statement. Unchecked: whoever writes to the ledger can also mislead
    the detectors by every other column.
    """
    if not receipt or receipt.count(".") != 2:
        return ""
    payload = receipt.split(".")[1]
    try:
        statement = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        return ""
    digest = statement.get("manifest", "") if isinstance(statement, dict) else ""
    return digest if isinstance(digest, str) else ""


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
