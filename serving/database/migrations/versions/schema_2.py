"""Schema 2: cost and hash chains in the ledger; scopes, expiry, budgets and more for tenants and keys.

Columns are added in place, never by copying a table: a ledger may hold a hundred million requests.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"

_ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _requests()
    _audit()
    _identity()


def _requests() -> None:
    _add(
        "requests",
        sa.Column("asked_model", sa.String(255), nullable=False, server_default=""),
        sa.Column("cost_nanos", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("continued", sa.Integer, nullable=False, server_default="0"),
        sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
        sa.Column("policy", sa.String(64), nullable=False, server_default=""),
        *_links(),
    )
    op.create_table(
        "chains",
        sa.Column("id", _ROW_ID, primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(40), nullable=False, unique=True),
        sa.Column("started_at", sa.Float(53), nullable=False),
        sa.Column("writer", sa.String(255), nullable=False),
        sa.Column("linked_chain", sa.String(40), nullable=False),
        sa.Column("linked_seq", sa.BigInteger, nullable=False),
        sa.Column("linked_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("genesis", sa.LargeBinary(32), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("head", sa.LargeBinary(32), nullable=False),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", _ROW_ID, primary_key=True, autoincrement=True),
        sa.Column("event_id", sa.String(64), nullable=False, unique=True),
        sa.Column("created_at", sa.Float(53), nullable=False, index=True),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        *_links(),
        sa.Index("ix_audit_chain_seq", "chain", "seq"),
    )


def _identity() -> None:
    _add(
        "tenants",
        sa.Column("note", sa.String(1000), nullable=False, server_default=""),
        sa.Column("suspended_at", sa.Float(53)),
        sa.Column("weight", sa.Float(53), nullable=False, server_default="1"),
        sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
        sa.Column("requests_per_minute", sa.Integer),
        sa.Column("tokens_per_minute", sa.Integer),
        sa.Column("concurrency", sa.Integer),
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    )
    _add(
        "api_keys",
        sa.Column("name", sa.String(100), nullable=False, server_default=""),
        sa.Column("note", sa.String(1000), nullable=False, server_default=""),
        sa.Column("models", sa.Text),
        sa.Column("endpoints", sa.Text),
        sa.Column("expires_at", sa.Float(53)),
        sa.Column("rotated_at", sa.Float(53)),
        sa.Column("last_used_at", sa.Float(53)),
        sa.Column("idempotency_digest", sa.LargeBinary(32)),
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    )
    op.create_index("ix_api_keys_tenant", "api_keys", ["tenant"])
    op.create_index("ix_api_keys_idempotency_digest", "api_keys", ["idempotency_digest"], unique=True)
    op.create_table(
        "retired_secrets",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("key_id", sa.String(32), sa.ForeignKey("api_keys.id"), nullable=False),
        sa.Column("hint", sa.String(4), nullable=False),
        sa.Column("valid_until", sa.Float(53), nullable=False),
    )
    op.create_table(
        "budgets",
        sa.Column("scope", sa.String(8), primary_key=True),
        sa.Column("owner", sa.String(63), primary_key=True),
        sa.Column("period", sa.String(8), primary_key=True),
        sa.Column("amount_nanos", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "drained_engines",
        sa.Column("engine", sa.String(255), primary_key=True),
        sa.Column("since", sa.Float(53), nullable=False),
    )


def _add(table: str, *columns: sa.Column[Any]) -> None:
    for column in columns:
        op.add_column(table, column)


def _links() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("chain", sa.BigInteger),
        sa.Column("seq", sa.BigInteger),
        sa.Column("previous_hash", sa.LargeBinary(32)),
        sa.Column("hash", sa.LargeBinary(32)),
    )
