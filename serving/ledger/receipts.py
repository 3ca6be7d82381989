"""Receipts as the ledger keeps them, found by their request."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Engine, select

from serving.database import explained
from serving.ledger.record import requests


class KeptReceipt(NamedTuple):
    """What a receipt is made from (`serving.provenance.receipts.record`), and whose answer it is about."""

    record: str
    tenant: str


def kept_receipt(engine: Engine, request_id: str) -> KeptReceipt | None:
    """The receipt of a request; None: there is no such request here, or it has none.

    Raises:
        DatabaseError: the database cannot be read.
    """
    query = select(requests.c.receipt, requests.c.tenant).where(requests.c.request_id == request_id)
    with explained(engine), engine.connect() as connection:
        row = connection.execute(query).first()
    return KeptReceipt(row.receipt, row.tenant) if row is not None and row.receipt else None
