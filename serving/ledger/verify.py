"""Checks the hash chains: finds records that were changed, removed, added or put in another's place.

Whoever can write to the whole database can compute every hash anew: against that stand only what was noted elsewhere
(`expected`) and the receipts, whose keys are not in the database.

Reads one snapshot of the database as a stream; memory does not grow with the number of records.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Row, Select, Table, func, select

from serving.database import explained
from serving.ledger.audit import AuditRecord, audit
from serving.ledger.chain import entry_hash, genesis_hash
from serving.ledger.links import chains
from serving.ledger.receipt_check import ReceiptChecker
from serving.ledger.record import UsageRecord, requests
from serving.provenance.receipts import ReceiptKeys

ANCHOR_ACTION = "ledger.anchor"
# A destroyed ledger would otherwise fill the memory with findings.
MAX_FINDINGS = 1000
_ROWS_AT_ONCE = 2000
_FIELDS: dict[Table, int] = {requests: len(UsageRecord.__struct_fields__), audit: len(AuditRecord.__struct_fields__)}


class Expectation(NamedTuple):
    """A record's hash that is known from elsewhere."""

    hash: bytes
    source: str


Expectations = dict[tuple[str, int], list[Expectation]]


@dataclass
class Report:
    """What a verification found; the chain holds when `findings` is empty."""

    num_requests: int = 0
    num_audits: int = 0
    num_chains: int = 0
    num_unchained: int = 0
    """Requests written before there were chains; nothing is known about them."""
    num_receipts: int = 0
    """Requests that were held against their own signed receipts."""
    num_foreign_receipts: int = 0
    """Requests whose receipts were signed by keys that are not at hand."""
    num_expected: int = 0
    """Records that were known from outside of the database: without any, the newest may be cut off unnoticed."""
    findings: list[str] = field(default_factory=list)
    num_findings: int = 0

    def add(self, finding: str) -> None:
        self.num_findings += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)


@dataclass
class _Chain:
    number: int
    name: str
    seq: int
    head: bytes
    stored_seq: int
    stored_head: bytes
    gaps: list[tuple[int, int]] = field(default_factory=list)


def verify(
    engine: Engine,
    expected: Mapping[tuple[str, int], bytes] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    receipt_keys: ReceiptKeys | None = None,
) -> Report:
    """Check every chained record, and those noted elsewhere: `expected` is (chain's name, number) to hash.

    With `receipt_keys` each request is also held against its own receipt.

    Raises:
        DatabaseError: the database cannot be read.
    """
    with explained(engine), _snapshot(engine) as connection:
        return _Verifier(connection, progress, ReceiptChecker(receipt_keys)).run(expected or {})


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection that sees the database as it is now, whatever is written meanwhile."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")
        else:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection
        connection.rollback()


class _Verifier:
    def __init__(self, connection: Connection, progress: Callable[[int, int], None], receipts: ReceiptChecker) -> None:
        self._connection = connection
        self._receipts = receipts
        self._progress = progress
        self._report = Report()
        self._chains: dict[int, _Chain] = {}
        self._expected: Expectations = {}

    def run(self, expected: Mapping[tuple[str, int], bytes]) -> Report:
        for (name, seq), value in expected.items():
            self._expect(name, seq, value, "the given anchor")
        self._report.num_expected = len(expected)
        self._read_chains()
        self._read_anchors()
        # Now that everything is known that may name a chain's beginning: it has no record of its own to meet it.
        for chain in self._chains.values():
            self._meet(chain.name, 0, chain.head)
        self._check_requests()
        for chain in self._chains.values():
            self._finish(chain)
        self._check_strays()
        for (name, seq), unmet in self._expected.items():
            for expectation in unmet:
                self._report.add(f"{name}: record {seq}, which {expectation.source} names, is missing")
        self._report.num_receipts = self._receipts.num_checked
        self._report.num_foreign_receipts = self._receipts.num_foreign
        return self._report

    def _expect(self, name: str, seq: int, value: bytes, source: str) -> None:
        self._expected.setdefault((name, seq), []).append(Expectation(value, source))

    def _meet(self, name: str, seq: int, value: bytes) -> None:
        for expectation in self._expected.pop((name, seq), ()):
            if expectation.hash != value:
                self._report.add(f"{name}: record {seq} is not the one that {expectation.source} names")

    def _read_chains(self) -> None:
        for row in self._connection.execute(select(chains).order_by(chains.c.id)):
            linked = (row.linked_chain, row.linked_seq, row.linked_hash)
            if genesis_hash(row.name, row.started_at, row.writer, linked) != row.genesis:
                self._report.add(f"{row.name}: its beginning was changed")
            if row.linked_chain:
                self._expect(*linked, source=f"the beginning of {row.name}")
            elif self._chains:
                self._report.add(f"{row.name}: it is linked to no earlier chain")
            self._chains[row.id] = _Chain(row.id, row.name, 0, row.genesis, row.seq, row.head)
        self._report.num_chains = len(self._chains)

    def _read_anchors(self) -> None:
        anchors = select(audit.c.event_id, audit.c.details).where(audit.c.action == ANCHOR_ACTION)
        for event_id, details in self._connection.execute(anchors):
            try:
                heads = {(name, int(seq)): bytes.fromhex(value) for name, (seq, value) in json.loads(details).items()}
            except (ValueError, TypeError, AttributeError):
                continue  # a changed anchor is found as a changed record
            for (name, seq), value in heads.items():
                self._expect(name, seq, value, f"anchor {event_id}")

    def _check_requests(self) -> None:
        total = self._connection.scalar(select(func.count()).select_from(requests)) or 0
        first_chained = self._connection.scalar(select(func.min(requests.c.id)).where(requests.c.chain.is_not(None)))
        everything = select(requests).order_by(requests.c.id).execution_options(yield_per=_ROWS_AT_ONCE)
        rows = self._connection.execute(everything)
        for done, row in enumerate(rows):
            if done % _ROWS_AT_ONCE == 0:
                self._progress(done, total)
            if (denied := self._receipts.contradiction(row)) is not None:
                self._report.add(f"request {row.request_id} {denied}")
            if row.chain is not None:
                self._report.num_requests += 1
                self._check_in_turn(row)
            elif first_chained is None or row.id < first_chained:
                self._report.num_unchained += 1
            else:
                self._report.add(f"request {row.request_id} is in no chain: it was added, or taken out of one")
        self._progress(total, total)

    def _check_in_turn(self, row: Row[Any]) -> None:
        chain = self._chains.get(row.chain)
        if chain is None:
            self._report.add(f"request {row.request_id} belongs to chain number {row.chain}, which is missing")
            return
        while row.seq > chain.seq + 1:
            event = self._next_event(chain, row.seq)
            self._skip_to(chain, event if event is not None else row)
            if event is None:
                break
            self._check(chain, audit, event)
        if row.seq <= chain.seq:
            self._out_of_place(chain, row)
        else:
            self._check(chain, requests, row)

    def _next_event(self, chain: _Chain, before: int | None = None) -> Row[Any] | None:
        query: Select[Any] = select(audit).where(audit.c.chain == chain.number, audit.c.seq > chain.seq)
        if before is not None:
            query = query.where(audit.c.seq < before)
        return self._connection.execute(query.order_by(audit.c.seq, audit.c.id).limit(1)).first()

    def _skip_to(self, chain: _Chain, row: Row[Any]) -> None:
        """Note a gap before `row`, and go on from there."""
        if row.seq > chain.seq + 1:
            chain.gaps.append((chain.seq + 1, row.seq - 1))
            chain.seq, chain.head = row.seq - 1, row.previous_hash

    def _out_of_place(self, chain: _Chain, row: Row[Any]) -> None:
        self._report.add(f"{chain.name}: record {row.seq} ({_name(row)}) is out of its place, or there twice")
        for index, (first, last) in enumerate(chain.gaps):
            if first <= row.seq <= last:  # it was not missing after all
                chain.gaps[index : index + 1] = [
                    gap for gap in ((first, row.seq - 1), (row.seq + 1, last)) if gap[0] <= gap[1]
                ]
                self._meet(chain.name, row.seq, row.hash)
                return

    def _check(self, chain: _Chain, table: Table, row: Row[Any]) -> None:
        values = tuple(row)[1 : 1 + _FIELDS[table]]
        where = f"{chain.name}: record {row.seq} ({_name(row)})"
        if (
            row.hash is None
            or entry_hash(row.previous_hash, chain.name, row.seq, _hashed_as(table), values) != row.hash
        ):
            self._report.add(f"{where} was changed")
        elif row.previous_hash != chain.head:
            self._report.add(f"{where} does not follow record {row.seq - 1}: one of the two was put there later")
        self._meet(chain.name, row.seq, row.hash)
        chain.seq, chain.head = row.seq, row.hash
        if table is audit:
            self._report.num_audits += 1

    def _finish(self, chain: _Chain) -> None:
        """The events after the last request, then the end."""
        while (event := self._next_event(chain)) is not None:
            self._skip_to(chain, event)
            self._check(chain, audit, event)
        for first, last in chain.gaps:
            what = f"record {first} is" if first == last else f"records {first} to {last} are"
            self._report.add(f"{chain.name}: {what} missing")
        if chain.seq < chain.stored_seq:
            missing = chain.stored_seq - chain.seq
            self._report.add(f"{chain.name}: the last {missing} of its {chain.stored_seq} records are missing")
        elif chain.seq > chain.stored_seq:
            self._report.add(f"{chain.name}: it has {chain.seq} records, but its head says {chain.stored_seq}")
        elif chain.head != chain.stored_head:
            self._report.add(f"{chain.name}: its head is not the hash of its last record")

    def _check_strays(self) -> None:
        events = self._connection.scalar(select(func.count()).select_from(audit)) or 0
        if events != self._report.num_audits:
            stray = events - self._report.num_audits
            self._report.add(f"{stray} administrative records are in no chain, or there twice")


def _hashed_as(table: Table) -> str:
    return "audit" if table is audit else "requests"


def _name(row: Row[Any]) -> str:
    name: str = tuple(row)[1]
    return name
