"""Ledger records to write in tests, and a look at what was written."""

from __future__ import annotations

from itertools import count
from typing import Any

import msgspec
from sqlalchemy import Table, create_engine, select

from serving.ledger import UsageRecord
from serving.ledger.record import requests

_numbers = count()


def a_record(**changes: Any) -> UsageRecord:
    record = UsageRecord(
        request_id=f"req_{next(_numbers):024x}",
        created_at=1_795_000_000.5,
        tenant="acme",
        key_id="key_1",
        model="m",
        endpoint="chat",
        status=200,
    )
    return msgspec.structs.replace(record, **changes)


def rows(url: str, table: Table = requests) -> list[dict[str, Any]]:
    """The table's rows in the order of their commit."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = [dict(row._mapping) for row in connection.execute(select(table).order_by(table.c.id))]
    engine.dispose()
    return found
