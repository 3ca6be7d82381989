"""Schema 7: a database says which versions of Signet can use it, beside its own number."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "7"
down_revision = "6"


def upgrade() -> None:
    op.add_column("schema_version", sa.Column("revision", sa.Integer))
