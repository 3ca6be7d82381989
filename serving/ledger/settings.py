"""Settings of the ledger."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class LedgerSettings(BaseModel):
    """How records are gathered into transactions."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    max_batch: int = Field(default=512, ge=1)
    """Most records in one transaction: bounds how long the last one of a burst waits."""

    max_pending: int = Field(default=20_000, ge=1)
    """Most records waiting for the disk (about 1 KB each); beyond it a commit fails at once."""

    busy_timeout_s: float = Field(default=5.0, ge=0)
    """How long a transaction waits for another process that is writing to the same SQLite file."""
