"""Schema 4: a key's default mark may be a scheme's name.

SQLite keeps texts of any length; PostgreSQL widens the column without touching a row.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("api_keys", "mark_default", type_=sa.String(16))
