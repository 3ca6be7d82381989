"""The tables `tenants`, `api_keys` and the revision that a running gateway polls."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, ForeignKey, Integer, LargeBinary, String, Table

from serving.ledger.database import metadata

tenants = Table(
    "tenants",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("created_at", Float(53), nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", ForeignKey("tenants.name"), nullable=False),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("hint", String(4), nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", Integer),
    Column("concurrency", Integer),
    Column("mark_default", String(3), nullable=False),
    Column("mark_allowed", Boolean, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("revoked_at", Float(53)),
)

# One row, counted up in the transaction of every change: one cheap read says whether anything changed.
# (SQLite's own data_version would not do: the ledger writes to the same file with every request.)
identity_revision = Table(
    "identity_revision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", Integer, nullable=False),
)

TABLES = (tenants, api_keys, identity_revision)
