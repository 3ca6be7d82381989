"""Schema 8: what users say of answers, and whether a tenant lets its texts be kept for that."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "8"
down_revision = "7"


def upgrade() -> None:
    op.add_column("tenants", sa.Column("keep_feedback_text", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "feedback",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("request_id", sa.String(64), nullable=False, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("manifest", sa.String(71), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False, index=True),
        sa.Column("updated_at", sa.Float(53), nullable=False),
        sa.Column("rating", sa.Float(53)),
        sa.Column("verified", sa.Boolean),
        sa.Column("reason", sa.Text),
        sa.Column("correction", sa.Text),
        sa.Column("messages", sa.Text),
        sa.Column("answer", sa.Text),
    )
