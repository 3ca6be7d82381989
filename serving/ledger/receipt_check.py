"""Compares a record with its own receipt: what was stated when the answer was given, and what the row says now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Row

from serving.provenance.receipts import (
    NoStatement,
    NotSigned,
    ReceiptKeys,
    Statement,
    check_tenant,
    kid_of,
    read_record,
)

# A receipt is recorded when its answer ends. Clocks are set now and then; days are what accounts are made of.
MAX_CLOCK_STEP_S = 3600.0


def local_receipt_keys(file: Path) -> ReceiptKeys | None:
    """The keys that receipts are signed with here; None: there are none.

    Raises:
        ReceiptKeysError: the file cannot be used.
    """
    return ReceiptKeys.open(file) if file.exists() else None


class ReceiptChecker:
    """Checks receipts with one issuer's keys, and counts them."""

    def __init__(self, keys: ReceiptKeys | None) -> None:
        self._keys = keys
        self._known = set() if keys is None else {key.kid for key in keys.all()}
        self.num_checked = 0
        self.num_foreign = 0
        """Receipts of other keys."""

    def contradiction(self, row: Row[Any]) -> str | None:
        """What the receipt of this request denies, as the end of a sentence about the record; None: nothing."""
        if not row.receipt:
            return None
        if self._keys is None:
            self.num_foreign += 1
            return None
        try:
            known = kid_of(row.receipt) in self._known
        except ValueError:
            return "has a receipt that is none"
        if not known:
            self.num_foreign += 1
            return None
        self.num_checked += 1
        try:
            statement, salts = read_record(row.receipt, self._keys, row.request_id)
        except (NotSigned, NoStatement) as error:
            return f"has a receipt that {error}"
        denied = _denied(row, statement)
        if check_tenant(statement, salts, row.tenant).holds is False:
            denied.append("tenant")
        return f"says otherwise than its receipt: {', '.join(denied)}" if denied else None


def _denied(row: Row[Any], statement: Statement) -> list[str]:
    """The columns that are not as the statement has them."""
    stated: dict[str, tuple[object, object]] = {
        "request_id": (row.request_id, statement.jti),
        "model": (row.model[:255], statement.model),
        "endpoint": (row.endpoint, statement.endpoint),
        "prompt_tokens": (row.prompt_tokens, statement.prompt_tokens),
        "completion_tokens": (row.completion_tokens, statement.completion_tokens),
        "finish_reason": (row.finish_reason, statement.finish_reason),
        "continued": (row.continued, statement.continued),
        "policy": (row.policy, statement.policy),
    }
    if row.engine:  # an answer that no engine gave is the policy's own words, which carry no mark
        stated["mark_scheme"] = (row.mark_scheme or "off", statement.mark)
        stated["mark_key_id"] = (row.mark_key_id, statement.mark_key)
    denied = [name for name, (recorded, signed) in stated.items() if recorded != signed]
    if abs(row.created_at + row.duration_s - statement.iat) > MAX_CLOCK_STEP_S:
        denied.append("created_at")
    return denied
