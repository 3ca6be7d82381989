"""What Alembic runs: the migrations over a connection that is given to it, inside the caller's transaction."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from serving.database.engine import metadata

connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
