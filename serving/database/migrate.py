"""Brings a database to the schema of this version: by itself at every start, by one process at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Column, Connection, Engine, Integer, String, Table, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from serving.database.engine import DatabaseError, explain, metadata

# The newest file in `migrations/versions`; a test holds the two together.
SCHEMA_VERSION = 6
# Any number that nobody else takes: "signet" in ASCII.
_ADVISORY_LOCK = 0x7369676E6574

schema_version = Table(
    "schema_version",
    metadata,
    Column("component", String(32), primary_key=True),
    Column("version", Integer, nullable=False),
)
# SQLite does not wait for the lock by which another process makes a new file's log, but fails.
_ATTEMPTS = 20
_VERSION = select(schema_version.c.version).where(schema_version.c.component == "serving")


def migrate(engine: Engine) -> None:
    """Create or upgrade the tables; cheap when there is nothing to do. Safe to call from several processes at once.

    Raises:
        DatabaseError: the database cannot be opened or changed, or was made by a newer version.
    """
    for attempt in range(_ATTEMPTS):
        try:
            _migrate(engine)
            return
        except SQLAlchemyError as error:
            if attempt == _ATTEMPTS - 1 or "locked" not in str(error):
                raise DatabaseError(explain(engine, error)) from error
            time.sleep(0.05)


def _migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        if _found(connection) == SCHEMA_VERSION:
            return
    with _alone(engine) as connection:
        if _found(connection) < SCHEMA_VERSION:  # not done by another process meanwhile
            _upgrade(connection)


def _found(connection: Connection) -> int:
    """The database's schema; 0: it has none yet."""
    if not inspect(connection).has_table(schema_version.name):
        return 0
    version = connection.scalar(_VERSION) or 0
    if version > SCHEMA_VERSION:
        raise DatabaseError(
            f"the database {connection.engine.url.render_as_string()} has schema {version}, this version of Signet "
            f"knows {SCHEMA_VERSION}: upgrade Signet"
        )
    return int(version)


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """A transaction in which no other process changes tables; all that is done in it is done, or nothing."""
    if engine.dialect.name == "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # The driver would begin its own transaction only before the first INSERT, and lock too late.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
    else:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            yield connection


def _upgrade(connection: Connection) -> None:
    # Imported when there is something to do: it takes a third of a gateway's start.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "serving.database:migrations")
    config.attributes["connection"] = connection
    found = _found(connection)
    if not inspect(connection).has_table(schema_version.name):
        schema_version.create(connection)
    if found:  # a database of the version before Alembic, or one that Alembic made: either way it is at `found`
        command.stamp(config, str(found))
    command.upgrade(config, str(SCHEMA_VERSION))
    if found:
        connection.execute(schema_version.update().values(version=SCHEMA_VERSION))
    else:
        connection.execute(schema_version.insert().values(component="serving", version=SCHEMA_VERSION))
