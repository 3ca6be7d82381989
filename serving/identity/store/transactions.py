"""How identity reads and changes the database.

A change first counts up `identity_revision`. That row is what running gateways look at, and its lock lets one change
in at a time, on SQLite as on PostgreSQL: what a transaction reads after it, nobody changes before it ends. When the
change is durable the gateways are told, before the call returns.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from serving.database import Migrate, SchemaCheck, explain, open_engine
from serving.identity.changes import changes_of
from serving.identity.errors import IdentityError, VersionConflict
from serving.identity.schema import identity_revision

logger = logging.getLogger(__name__)


class Transactions:
    """One database, opened.

    Raises:
        DatabaseError, IdentityError: (constructor) it cannot be used.
    """

    def __init__(self, url: str, migrate: Migrate = "start") -> None:
        self._engine = open_engine(url)
        self._schema = SchemaCheck(self._engine, migrate)
        self._begin()
        self._changes = changes_of(self._engine)

    def _begin(self) -> None:
        self._schema.ensure()
        self._begin_revision()

    @property
    def database(self) -> Engine:
        """For reports on the same database."""
        return self._engine

    def close(self) -> None:
        """Release the database."""
        self._changes.close()
        self._engine.dispose()

    def _changed(self) -> None:
        """Called after every change."""

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                connection.execute(update(identity_revision).values(revision=identity_revision.c.revision + 1))
                revision = connection.scalar(select(identity_revision.c.revision)) or 0
                yield connection
                self._changes.notify(connection)
        except SQLAlchemyError as error:
            raise IdentityError(explain(self._engine, error)) from error
        # First, so that what `_changed` takes over is not told to this process again.
        self._changes.announce(revision)
        self._changed()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise IdentityError(explain(self._engine, error)) from error

    def _begin_revision(self) -> None:
        """Make the row that is counted up; right when two processes do it at once."""
        try:
            with self._engine.begin() as connection:
                if connection.scalar(select(identity_revision.c.id)) is None:
                    connection.execute(insert(identity_revision).values(id=1, revision=1))
        except IntegrityError:
            logger.debug("another process was first")
        except SQLAlchemyError as error:
            raise IdentityError(explain(self._engine, error)) from error


def check_version(current: int, expected: int | None, what: str) -> None:
    """Refuse to change `what` when somebody else did.

    Raises:
        VersionConflict: its version is not the expected one; None expects nothing.
    """
    if expected is not None and current != expected:
        raise VersionConflict(
            f"{what} was changed meanwhile: it is at version {current}, not {expected}; read it again"
        )
