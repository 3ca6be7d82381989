"""Schema 3: the receipt of an answer, kept with its record.

NULL without a default: adding it writes no row, however large the ledger is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    op.add_column("requests", sa.Column("receipt", sa.String(8192)))
