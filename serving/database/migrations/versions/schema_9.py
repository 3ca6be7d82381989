"""Schema 9: sums of usage by the hour, filled from the requests after the migration; audit records by subject."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "9"
down_revision = "8"


def upgrade() -> None:
    op.create_table(
        "usage_hours",
        sa.Column("hour", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("key_id", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(255), primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_nanos", sa.BigInteger, nullable=False),
        sa.Index("ix_usage_hours_tenant_hour", "tenant", "hour"),
        sa.Index("ix_usage_hours_key_id_hour", "key_id", "hour"),
    )
    rollup = op.create_table(
        "usage_rollup",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("up_to", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(rollup, [{"id": 1, "up_to": 0}])
    op.create_index("ix_audit_subject_id", "audit", ["subject", "id"])
