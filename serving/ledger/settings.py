"""Settings of the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator


class AnchorSettings(BaseModel):
    """Anchors that the gateway writes by itself, and where it sends them; none while neither file nor URL is set."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    interval_s: float = Field(default=3600.0, ge=1)
    """Seconds between two anchors: what was written after the last one can still be cut off unnoticed."""

    file: Path | None = None
    """Each anchor becomes a line of this file: put it where the database's owner cannot write."""

    url: SecretStr | None = None
    """Each anchor is POSTed there, as `application/jose`."""

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("https://", "http://")):
            raise ValueError("must begin with https:// or http://")
        return value

    @property
    def is_wanted(self) -> bool:
        return self.file is not None or self.url is not None


class LedgerSettings(BaseModel):
    """How records are gathered into transactions, and what happens when they cannot be written."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    max_batch: int = Field(default=512, ge=1)
    """Most records in one transaction: bounds how long the last one of a burst waits."""

    max_pending: int = Field(default=20_000, ge=1)
    """Most records waiting for the disk (about 2 KB each); beyond it a commit fails at once."""

    gather_s: float = Field(default=0.001, ge=0, le=1)
    """Least time between two transactions while several requests wait: each costs the gateway 0.1 ms of CPU."""

    busy_timeout_s: float = Field(default=3.0, ge=0)
    """How long a transaction waits for another process that is writing to the same SQLite file."""

    commit_timeout_s: float = Field(default=5.0, gt=0)
    """How long an answer waits for its record to be durable; then it is refused, or its record spilled."""

    when_unavailable: Literal["refuse", "spill"] = "refuse"
    """While the database takes no records: `refuse` answers, or `spill` their records to a journal in SIGNET_HOME."""

    spill_max_bytes: int = Field(default=256 * 1024 * 1024, ge=4096)
    """Largest journal of one process, about 2 KB a record; when it is full, answers are refused."""

    anchors: AnchorSettings = AnchorSettings()
