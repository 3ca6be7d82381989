"""Schema 5: names of models and engines of any length.

SQLite keeps texts of any length; PostgreSQL changes the columns' type without touching a row.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for column in ("model", "engine", "asked_model"):
            op.alter_column("requests", column, type_=sa.Text())
