"""Whoever changes, removes, adds or reorders a record is found, and the record named."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, delete, insert, select, text, update

from serving.database import migrate, open_engine
from serving.ledger import Ledger, UsageRecord
from serving.ledger.anchor import Head, anchor, write_audit
from serving.ledger.audit import audit
from serving.ledger.chain import genesis_hash
from serving.ledger.links import chains
from serving.ledger.record import requests
from serving.ledger.verify import Report, verify
from serving.ledger.writer import RecordWriter
from serving.provenance.receipts import AnswerClaims, AnswerDigests, ReceiptIssuer, ReceiptKeys, receipt_of
from serving.provenance.receipts.jws import b64, unb64
from tests.support.ledgers import a_record, rows

Forgery = Callable[[Connection], object]


def fill(url: str, num_requests: int = 10) -> None:
    """One process: requests, an administrative record in their middle and one at the end."""

    async def write() -> None:
        ledger = Ledger(url)
        ledger.start()
        for number in range(num_requests):
            await ledger.commit(a_record(ttft_s=0.1 * number, streamed=True))
            if number == num_requests // 2:
                await ledger.audit("key_admin", "key.create", "key_2", {"tenant": "acme"})
        await ledger.audit("key_admin", "key.revoke", "key_2")
        await asyncio.to_thread(ledger.stop)

    asyncio.run(write())


def check(url: str, forge: Forgery | None = None, **options: object) -> Report:
    engine = open_engine(url)
    if forge is not None:
        with engine.begin() as connection:
            forge(connection)
    report = verify(engine, **options)  # type: ignore[arg-type]
    engine.dispose()
    return report


def test_an_untouched_ledger_holds(url: str) -> None:
    fill(url)
    fill(url)

    report = check(url)

    assert report.findings == []
    assert (report.num_requests, report.num_audits, report.num_chains, report.num_unchained) == (20, 4, 2, 0)


@pytest.mark.parametrize(
    ("forge", "says"),
    [
        pytest.param(
            lambda c: c.execute(update(requests).where(requests.c.seq == 3).values(completion_tokens=1)),
            r"record 3 \(req_\w+\) was changed",
            id="a number changed",
        ),
        pytest.param(
            lambda c: c.execute(update(requests).where(requests.c.seq == 3).values(streamed=False)),
            r"record 3 .* was changed",
            id="a truth changed",
        ),
        pytest.param(
            lambda c: c.execute(update(audit).where(audit.c.action == "key.create").values(actor="nobody")),
            r"record 7 \(evt_\w+\) was changed",
            id="an administrative record changed",
        ),
        pytest.param(
            lambda c: c.execute(delete(requests).where(requests.c.seq == 4)), "record 4 is missing", id="one removed"
        ),
        pytest.param(
            lambda c: c.execute(delete(requests).where(requests.c.seq.in_([3, 4, 5]))),
            "records 3 to 5 are missing",
            id="three removed",
        ),
        pytest.param(lambda c: c.execute(delete(requests).where(requests.c.seq == 1)), "record 1 is", id="the first"),
        pytest.param(
            lambda c: c.execute(delete(audit).where(audit.c.action == "key.create")), "record 7 is missing", id="event"
        ),
        pytest.param(
            lambda c: c.execute(delete(audit).where(audit.c.action == "key.revoke")),
            "the last 1 of its 12 records are missing",
            id="the tail removed",
        ),
        pytest.param(
            lambda c: swap_places(c), r"record 3 \(req_\w+\) is out of its place", id="two rows in each's place"
        ),
        pytest.param(lambda c: swap_numbers(c), r"record 4 .* was changed", id="two numbers exchanged"),
        pytest.param(
            lambda c: c.execute(update(requests).where(requests.c.seq == 3).values(chain=None, seq=None)),
            "is in no chain",
            id="taken out of the chain",
        ),
        pytest.param(
            lambda c: c.execute(update(chains).values(writer="another")), "its beginning was changed", id="beginning"
        ),
        pytest.param(lambda c: c.execute(delete(chains)), "belongs to chain number", id="the chain's row removed"),
        pytest.param(
            lambda c: c.execute(
                insert(audit).values(event_id="e", created_at=1.0, actor="a", action="b", subject="c", details="{}")
            ),
            "1 administrative records are in no chain",
            id="an event added",
        ),
    ],
)
def test_a_forgery_is_named(url: str, forge: Forgery, says: str) -> None:
    fill(url)

    report = check(url, forge)

    assert any(re.search(says, finding) for finding in report.findings), report.findings


def swap_places(connection: Connection) -> None:
    ids = connection.scalars(select(requests.c.id).where(requests.c.seq.in_([3, 4])).order_by(requests.c.seq)).all()
    connection.execute(update(requests).where(requests.c.id == ids[0]).values(id=999))
    connection.execute(update(requests).where(requests.c.id == ids[1]).values(id=ids[0]))
    connection.execute(update(requests).where(requests.c.id == 999).values(id=ids[1]))


def swap_numbers(connection: Connection) -> None:
    connection.execute(text("UPDATE requests SET seq = 7 - seq WHERE seq IN (3, 4)"))


def test_a_forger_who_computes_hashes_anew_must_go_on_to_the_end(url: str) -> None:
    """Replacing the tail whole is what only an anchor shows; the middle shows by itself."""
    fill(url)

    def forge(connection: Connection) -> None:
        from serving.ledger.chain import entry_hash
        from serving.ledger.record import UsageRecord

        connection.execute(update(requests).where(requests.c.seq == 3).values(completion_tokens=9))
        row = connection.execute(select(requests).where(requests.c.seq == 3)).one()
        name = connection.scalar(select(chains.c.name))
        assert name is not None
        values = tuple(row)[1 : 1 + len(UsageRecord.__struct_fields__)]
        forged = entry_hash(row.previous_hash, name, 3, "requests", values)
        connection.execute(update(requests).where(requests.c.seq == 3).values(hash=forged))

    assert any(
        "record 4" in finding and "does not follow record 3" in finding for finding in check(url, forge).findings
    )


def test_a_chain_removed_whole_is_missed_by_the_next(url: str) -> None:
    for _ in range(3):
        fill(url, 2)

    def forge(connection: Connection) -> None:
        middle = connection.scalars(select(chains.c.id).order_by(chains.c.id)).all()[1]
        connection.execute(delete(requests).where(requests.c.chain == middle))
        connection.execute(delete(audit).where(audit.c.chain == middle))
        connection.execute(delete(chains).where(chains.c.id == middle))

    assert any("the beginning of chain_" in finding and "missing" in finding for finding in check(url, forge).findings)


def test_an_anchor_noted_elsewhere_proves_the_tail(url: str) -> None:
    fill(url)
    engine = open_engine(url)
    noted = anchor(engine, "cli:test")
    engine.dispose()
    noted = Head.parse(str(noted))

    def cut_off(connection: Connection) -> None:
        """Remove the last requests and the anchor, and correct the heads: the database alone cannot show it."""
        last = connection.execute(select(requests).where(requests.c.seq == 4)).one()
        connection.execute(delete(requests).where(requests.c.seq > 4))
        connection.execute(delete(audit))
        connection.execute(delete(chains).where(chains.c.name == noted.chain))
        connection.execute(update(chains).values(seq=4, head=last.hash))

    expected = {(noted.chain, noted.seq): noted.hash}
    assert check(url, expected=expected).findings == []
    assert check(url, cut_off).findings == []
    [finding] = check(url, expected=expected).findings
    assert "which the given anchor names, is missing" in finding


def test_an_anchor_in_the_ledger_holds_the_chains_before_it(url: str) -> None:
    fill(url)
    engine = open_engine(url)
    anchor(engine, "cli:test")
    engine.dispose()

    def cut_off(connection: Connection) -> None:
        name = connection.scalar(select(chains.c.name).order_by(chains.c.id).limit(1))
        last = connection.execute(select(audit).where(audit.c.action == "key.create")).one()
        connection.execute(delete(requests).where(requests.c.seq > 7))
        connection.execute(delete(audit).where(audit.c.action == "key.revoke"))
        connection.execute(update(chains).where(chains.c.name == name).values(seq=7, head=last.hash))

    assert any("which anchor evt_" in finding and "missing" in finding for finding in check(url, cut_off).findings)


def test_commands_write_chains_of_their_own(url: str) -> None:
    fill(url, 2)
    engine = open_engine(url)
    write_audit(engine, "cli:test", "key.create", "key_9", {"b": 1, "a": 2})
    engine.dispose()

    assert check(url).findings == []
    assert rows(url, audit)[-1]["details"] == '{"a":2,"b":1}'


def test_progress_is_told(url: str) -> None:
    fill(url, 3)
    seen: list[tuple[int, int]] = []

    check(url, progress=lambda done, total: seen.append((done, total)))

    assert seen[-1] == (3, 3)


def test_an_anchor_holds_whenever_it_was_taken(url: str) -> None:
    """Before there is a chain, before its first record, after each one, and when it has ended."""
    anchors: list[Head] = []
    engine = open_engine(url)

    async def live() -> None:
        ledger = Ledger(url)
        ledger.start()

        async def note() -> None:
            anchors.append(await asyncio.to_thread(anchor, engine, "cli:test"))

        await note()
        for _ in range(3):
            await ledger.commit(a_record())
            await note()
        await ledger.audit("key_admin", "key.create", "key_2")
        await note()
        await asyncio.to_thread(ledger.stop)
        await note()

    migrate(engine)
    anchors.append(anchor(engine, "cli:test"))
    asyncio.run(live())
    engine.dispose()

    assert check(url).findings == []
    for noted in anchors:
        assert check(url, expected={(noted.chain, noted.seq): noted.hash}).findings == []
    assert check(url, expected={(noted.chain, noted.seq): noted.hash for noted in anchors}).num_expected == len(anchors)


def test_a_beginning_that_an_anchor_names_may_not_change(url: str) -> None:
    engine = open_engine(url)
    writer = RecordWriter(engine, "gateway")
    migrate(engine)
    writer.probe()
    anchor(engine, "cli:test")
    writer.close()

    def begin_anew(connection: Connection) -> None:
        first = connection.execute(select(chains).order_by(chains.c.id)).first()
        assert first is not None
        genesis = genesis_hash(first.name, 1.0, first.writer, ("", 0, b""))
        connection.execute(
            update(chains).where(chains.c.id == first.id).values(started_at=1.0, genesis=genesis, head=genesis)
        )

    assert any("is not the one that anchor evt_" in finding for finding in check(url, begin_anew).findings)
    engine.dispose()


@pytest.fixture
def receipt_keys(tmp_path: Path) -> ReceiptKeys:
    return ReceiptKeys.open(tmp_path / "receipt-keys.json", create=True)


def signed_record(keys: ReceiptKeys, **changes: object) -> UsageRecord:
    record = a_record(prompt_tokens=3, completion_tokens=7, finish_reason="stop", engine="e", created_at=time.time())
    stated = AnswerClaims(record.endpoint, record.model, record.policy, "off", 3, 7, "stop")
    receipt = ReceiptIssuer(keys, "signet").record(
        record.request_id, record.tenant, stated, AnswerDigests({"prompt": "x"})
    )
    return msgspec.structs.replace(record, receipt=receipt.record, **changes)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        pytest.param({"completion_tokens": 0}, "completion_tokens", id="tokens"),
        pytest.param({"tenant": "other"}, "tenant", id="tenant"),
        pytest.param({"model": "cheaper"}, "model", id="model"),
        pytest.param({"created_at": 1_795_000_000.5}, "created_at", id="day"),
        pytest.param({"mark_scheme": "kgw"}, "mark_scheme", id="mark"),
        pytest.param({"request_id": "req_" + "0" * 24}, "request_id", id="another request's"),
    ],
)
def test_a_record_that_denies_its_receipt_is_named_though_every_hash_fits(
    url: str, receipt_keys: ReceiptKeys, changed: dict[str, object], named: str
) -> None:
    """What somebody writes who computes all hashes anew and has no key to sign with."""
    write(url, signed_record(receipt_keys), signed_record(receipt_keys, **changed))

    report = check(url, receipt_keys=receipt_keys)

    [finding] = report.findings
    assert "says otherwise than its receipt: " in finding
    assert named in finding
    assert report.num_receipts == 2
    assert check(url).findings == []


@pytest.mark.parametrize("as_before", [False, True])
def test_a_receipt_that_was_changed_with_its_record_is_found(
    url: str, receipt_keys: ReceiptKeys, as_before: bool
) -> None:
    record = signed_record(receipt_keys)
    assert record.receipt is not None
    if as_before:  # earlier versions kept receipts as they were signed
        signed = receipt_of(record.receipt, receipt_keys, record.request_id).signed
        record = msgspec.structs.replace(record, receipt=signed)
        assert record.receipt is not None
    head, payload, signature = record.receipt.split(".")
    other = b64(unb64(payload).replace(b'"completion_tokens":7', b'"completion_tokens":1'))
    write(url, msgspec.structs.replace(record, completion_tokens=1, receipt=f"{head}.{other}.{signature}"))

    [finding] = check(url, receipt_keys=receipt_keys).findings

    assert f"was changed after it was {'signed' if as_before else 'recorded'}" in finding


def test_receipts_of_other_keys_are_counted_and_accuse_nobody(
    url: str, receipt_keys: ReceiptKeys, tmp_path: Path
) -> None:
    write(url, signed_record(receipt_keys))

    report = check(url, receipt_keys=ReceiptKeys.open(tmp_path / "others.json", create=True))

    assert (report.findings, report.num_receipts, report.num_foreign_receipts) == ([], 0, 1)


def test_receipts_hold_over_a_rotation(url: str, receipt_keys: ReceiptKeys) -> None:
    first = signed_record(receipt_keys)
    ReceiptKeys.rotate(receipt_keys.path)
    keys = ReceiptKeys.open(receipt_keys.path)
    write(url, first, signed_record(keys))

    assert (check(url, receipt_keys=keys).findings, check(url, receipt_keys=keys).num_receipts) == ([], 2)


def write(url: str, *records: UsageRecord) -> None:
    async def commit() -> None:
        ledger = Ledger(url)
        ledger.start()
        for record in records:
            await ledger.commit(record)
        await asyncio.to_thread(ledger.stop)

    asyncio.run(commit())
