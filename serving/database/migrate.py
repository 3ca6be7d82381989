"""Brings a database to the schema of this version, by one process at a time; or only looks whether it has it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from serving.database.engine import DatabaseAway, DatabaseError, explained
from serving.database.schema import MIN_READER, SCHEMA_VERSION, SchemaMismatch, check_schema, schema_of, schema_version
from serving.database.settings import Migrate

# Any number that nobody else takes: "signet" in ASCII.
_ADVISORY_LOCK = 0x7369676E6574
# A table that is altered waits for those who read it, and whoever wants to write waits behind it.
_LOCK_TIMEOUT_S = 5
# SQLite does not wait for the lock by which another process makes a new file's log, but fails.
_ATTEMPTS = 20


class SchemaCheck:
    """Whether a database has a schema that this version can use; for a process that may have to wait for one."""

    def __init__(self, engine: Engine, migrate: Migrate = "start") -> None:
        self._engine = engine
        self._migrate = migrate
        self.passed = False
        self.mismatch = False
        """The database was reached, and its schema is too old or too new."""

    def ensure(self) -> None:
        """Upgrade the database or check it, until that has succeeded once.

        Raises:
            DatabaseAway, SchemaMismatch, DatabaseError: not now.
        """
        if self.passed:
            return
        try:
            migrate(self._engine) if self._migrate == "start" else check(self._engine)
        except SchemaMismatch:
            self.mismatch = True
            raise
        self.passed, self.mismatch = True, False

    def may_wait(self, error: DatabaseError) -> bool:
        """Whether waiting may help."""
        return isinstance(error, DatabaseAway) or (isinstance(error, SchemaMismatch) and self._migrate == "never")


def check(engine: Engine) -> None:
    """Return when this version can use the database as it is.

    Raises:
        SchemaMismatch: it cannot: the schema is too old or too new.
        DatabaseAway, DatabaseError: the database cannot be opened.
    """
    with explained(engine), engine.connect() as connection:
        check_schema(connection)


def migrate(engine: Engine) -> None:
    """Create or upgrade the tables; cheap when there is nothing to do. Safe to call from several processes at once.

    Raises:
        SchemaMismatch: the database was made by a newer version, and no longer fits this one.
        DatabaseAway, DatabaseError: it cannot be opened or changed.
    """
    for attempt in range(_ATTEMPTS):
        try:
            with explained(engine):
                _migrate(engine)
            return
        except DatabaseError as error:
            if attempt == _ATTEMPTS - 1 or "locked" not in str(error):
                raise
            time.sleep(0.05)


def _migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        if not schema_of(connection).is_behind:
            check_schema(connection)
            return
    with _alone(engine) as connection:
        if schema_of(connection).is_behind:  # not done by another process meanwhile
            _upgrade(connection)


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
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S}s'")
            yield connection


def _upgrade(connection: Connection) -> None:
    # Imported when there is something to do: it takes a third of a gateway's start.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "serving.database:migrations")
    config.attributes["connection"] = connection
    stored = schema_of(connection).revision
    if stored:  # a database of the version before Alembic, or one that Alembic made: either way it is at `stored`
        command.stamp(config, str(stored))
    command.upgrade(config, str(SCHEMA_VERSION))
    versions = {"version": MIN_READER, "revision": SCHEMA_VERSION}
    if stored:
        connection.execute(schema_version.update().values(versions))
    else:
        connection.execute(schema_version.insert().values(component="serving", **versions))
