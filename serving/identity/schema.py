"""The tables of tenants, keys and budgets, and the revision that a running gateway polls."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Integer, LargeBinary, String, Table, Text, false

from serving.database import metadata

# `version` counts the changes of one row: who read an older one cannot overwrite a newer one unknowingly.
# Server defaults let these columns be added to tables that hold rows.
tenants = Table(
    "tenants",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("created_at", Float(53), nullable=False),
    Column("note", String(1000), nullable=False, server_default=""),
    Column("suspended_at", Float(53)),
    Column("weight", Float(53), nullable=False, server_default="1"),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", Integer),
    Column("concurrency", Integer),
    Column("version", Integer, nullable=False, server_default="1"),
    Column("keep_feedback_text", Boolean, nullable=False, server_default=false()),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", ForeignKey("tenants.name"), nullable=False, index=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("hint", String(4), nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", Integer),
    Column("concurrency", Integer),
    # As it was declared: SQLite cannot change a column, and keeps texts of any length.
    Column("mark_default", String(16).with_variant(String(3), "sqlite"), nullable=False),
    Column("mark_allowed", Boolean, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("revoked_at", Float(53)),
    Column("name", String(100), nullable=False, server_default=""),
    Column("note", String(1000), nullable=False, server_default=""),
    # JSON arrays of strings; NULL: all.
    Column("models", Text),
    Column("endpoints", Text),
    Column("expires_at", Float(53)),
    Column("rotated_at", Float(53)),
    Column("last_used_at", Float(53)),
    # Of the request that made the key, so that its repetition does not make a second one.
    Column("idempotency_digest", LargeBinary(32), unique=True, index=True),
    Column("version", Integer, nullable=False, server_default="1"),
)

# Secrets that a rotation replaced, valid for its grace period.
retired_secrets = Table(
    "retired_secrets",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("key_id", ForeignKey("api_keys.id"), nullable=False),
    Column("hint", String(4), nullable=False),
    Column("valid_until", Float(53), nullable=False),
)

# `owner` is a key's id or a tenant's name, by `scope`.
budgets = Table(
    "budgets",
    metadata,
    Column("scope", String(8), primary_key=True),
    Column("owner", String(63), primary_key=True),
    Column("period", String(8), primary_key=True),
    Column("amount_nanos", BigInteger, nullable=False),
)

# Engines that take no new requests because an administrator said so: for every process and replica.
drained_engines = Table(
    "drained_engines",
    metadata,
    Column("engine", String(255), primary_key=True),
    Column("since", Float(53), nullable=False),
)

# Adapters that every engine of their base is to serve, beside what it was started with.
live_adapters = Table(
    "live_adapters",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("digest", String(71), nullable=False),
    Column("base", String(71), nullable=False),
    Column("since", Float(53), nullable=False),
)

# One row, counted up in the transaction of every change: one cheap read says whether anything changed.
# (SQLite's own data_version would not do: the ledger writes to the same file with every request.)
identity_revision = Table(
    "identity_revision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", Integer, nullable=False),
)
