"""Receipts in the ledger: found by their request, and as protected by the chain as the rest of a record."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from serving.database import open_engine
from serving.ledger import Ledger
from serving.ledger.receipts import kept_receipt
from serving.ledger.record import requests
from serving.ledger.verify import verify
from serving.provenance.receipts.statement import MAX_RECEIPT_CHARS
from tests.support.ledgers import a_record


async def test_a_receipt_is_found_by_its_request(url: str) -> None:
    signed, without = a_record(receipt="a.b.c"), a_record()
    ledger = Ledger(url)
    ledger.start()
    await ledger.commit(signed)
    await ledger.commit(without)
    ledger.stop()
    engine = open_engine(url)

    assert kept_receipt(engine, signed.request_id) == ("a.b.c", "acme")
    assert kept_receipt(engine, without.request_id) is None
    assert kept_receipt(engine, "req_none") is None
    engine.dispose()


@pytest.mark.parametrize(("written", "edited"), [("a.b.c", "a.b.d"), ("a.b.c", None), (None, "a.b.c")])
async def test_a_receipt_that_is_changed_removed_or_added_breaks_the_chain(
    url: str, written: str | None, edited: str | None
) -> None:
    record = a_record(receipt=written)
    ledger = Ledger(url)
    ledger.start()
    await ledger.commit(record)
    ledger.stop()
    engine = open_engine(url)
    assert verify(engine).findings == []
    with engine.begin() as connection:
        connection.execute(update(requests).values(receipt=edited))

    [finding] = verify(engine).findings
    engine.dispose()

    assert f"({record.request_id}) was changed" in finding


async def test_the_column_holds_the_longest_receipt(url: str) -> None:
    ledger = Ledger(url)
    ledger.start()
    record = a_record(receipt="x" * MAX_RECEIPT_CHARS)
    await ledger.commit(record)
    ledger.stop()
    engine = open_engine(url)
    kept = kept_receipt(engine, record.request_id)
    engine.dispose()

    assert kept is not None
    assert kept.record == record.receipt
