"""One row of the `audit` table: who changed what. Chained with the requests of the process that wrote it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Float, Index, Integer, String, Table, Text

from serving.database import metadata
from serving.ledger.links import link_columns
from serving.ledger.record import UsageRecord


class AuditRecord(msgspec.Struct, frozen=True, gc=False, tag="audit"):
    """One administrative action. Fields stand in the order of the table's columns."""

    event_id: str
    """`evt_` and 24 hexadecimal digits."""
    created_at: float
    """Unix time, seconds."""
    actor: str
    """Who did it: a key's id, `cli:USER`, or a subject of the identity provider."""
    action: str
    """What, as `key.create`."""
    subject: str
    """To what: a key's id, a tenant's name."""
    details: str
    """JSON with sorted keys; no secrets."""


Entry = UsageRecord | AuditRecord

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("event_id", String(64), nullable=False, unique=True),
    Column("created_at", Float(53), nullable=False, index=True),
    Column("actor", String(255), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("details", Text, nullable=False),
    *link_columns(),
    Index("ix_audit_chain_seq", "chain", "seq"),
    Index("ix_audit_subject_id", "subject", "id"),
)


def audit_record(actor: str, action: str, subject: str, details: Mapping[str, Any] | None = None) -> AuditRecord:
    """A record of an action that happens now. `details` must be plain JSON values."""
    text = msgspec.json.encode(dict(details or {}), order="sorted").decode()
    return AuditRecord(f"evt_{secrets.token_hex(12)}", time.time(), actor, action, subject, text)
