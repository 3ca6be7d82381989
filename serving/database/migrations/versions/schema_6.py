"""Schema 6: adapters that engines serve while they run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"


def upgrade() -> None:
    op.create_table(
        "live_adapters",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("base", sa.String(71), nullable=False),
        sa.Column("since", sa.Float(53), nullable=False),
    )
