"""Whoever changes, removes, adds or reorders a record is found, and the record named."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest
from ledgers import a_record, rows
from sqlalchemy import Connection, delete, insert, select, text, update

from serving.ledger import Ledger
from serving.ledger.anchor import Head, anchor, write_audit
from serving.ledger.audit import audit
from serving.ledger.database import open_engine
from serving.ledger.links import chains
from serving.ledger.record import requests
from serving.ledger.verify import Report, verify

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
        """Remove the last requests and the anchor, and mend the heads: the database alone cannot show it."""
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
