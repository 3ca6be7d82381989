"""Reads of the ledger for administrators: what its failures become."""

from __future__ import annotations

import pytest

from serving.database import DatabaseError, ReadTimeout
from serving.gateway.api.admin.audit import read_ledger
from serving.gateway.errors import LedgerDown


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ReadTimeout("the ledger was read for longer than 5 s"), "took too long to answer"),
        (DatabaseError("the database postgresql://u:***@h/d is not usable: gone"), "cannot be read just now"),
    ],
)
async def test_a_failed_read_is_one_error_that_says_what_to_do(
    error: Exception, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(LedgerDown, match=says) as raised:
        await read_ledger(fail)

    assert (raised.value.status, raised.value.code) == (503, "ledger_unavailable")
    assert str(error) in caplog.text
