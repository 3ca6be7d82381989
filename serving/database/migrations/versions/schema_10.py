"""Schema 10: sums of usage by the day, beside those by the hour, which they are made from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "10"
down_revision = "9"


def upgrade() -> None:
    op.create_table(
        "usage_days",
        sa.Column("day", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("key_id", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(255), primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_nanos", sa.BigInteger, nullable=False),
        sa.Index("ix_usage_days_tenant_day", "tenant", "day"),
        sa.Index("ix_usage_days_key_id_day", "key_id", "day"),
    )
    op.execute(
        "INSERT INTO usage_days SELECT hour / 86400 * 86400, tenant, key_id, model, sum(requests), sum(prompt_tokens), "
        "sum(completion_tokens), sum(cost_nanos) FROM usage_hours GROUP BY 1, 2, 3, 4"
    )
