"""Which schema a database has, and whether this version of Signet can use it.

Releases run side by side on one database: the one before during a rollout, after a rollback, and wherever its pods are
scaled up. So a migration only *expands*: it adds tables, and columns that have a default or may be NULL. What nothing
reads any more is taken away by a release after the next one, which *contracts* and raises `MIN_READER`.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Column, Connection, Integer, String, Table, inspect, select

from serving.database.engine import DatabaseError, metadata

# The newest file in `migrations/versions`; a test holds the two together.
SCHEMA_VERSION = 10
# The oldest schema whose code can use this one. Never above the last release's; a test runs that release.
MIN_READER = 6

schema_version = Table(
    "schema_version",
    metadata,
    Column("component", String(32), primary_key=True),
    # Not the schema's number but the oldest whose code can use it: what code of schema 6, which knows no other column,
    # compares with its own.
    Column("version", Integer, nullable=False),
    # The schema's number. NULL: `version` is, as up to schema 6.
    Column("revision", Integer),
)


class SchemaMismatch(DatabaseError):
    """The database's schema is too old or too new for this version; `str()` says what to do about it."""


class Schema(NamedTuple):
    """What a database has. `revision` 0: no tables yet."""

    revision: int
    min_reader: int

    @property
    def is_behind(self) -> bool:
        """Whether migrations are missing."""
        return self.revision < SCHEMA_VERSION

    @property
    def is_ahead(self) -> bool:
        """Whether only newer versions of Signet can use it."""
        return self.min_reader > SCHEMA_VERSION


def schema_of(connection: Connection) -> Schema:
    """The schema of a database, which may have no tables."""
    inspector = inspect(connection)
    if not inspector.has_table(schema_version.name):
        return Schema(0, 0)
    has_revision = any(column["name"] == "revision" for column in inspector.get_columns(schema_version.name))
    columns = [schema_version.c.version, *([schema_version.c.revision] if has_revision else [])]
    row = connection.execute(select(*columns).where(schema_version.c.component == "serving")).first()
    if row is None:
        return Schema(0, 0)
    return Schema((row[1] if has_revision else None) or row[0], row[0])


def check_schema(connection: Connection) -> None:
    """Return when this version can use the database.

    Raises:
        SchemaMismatch: it cannot.
    """
    schema = schema_of(connection)
    where = f"the database {connection.engine.url.render_as_string()} has schema {schema.revision}"
    if schema.is_ahead:
        raise SchemaMismatch(
            f"{where}, which needs a version of Signet that knows schema {schema.min_reader}; this one knows "
            f"{SCHEMA_VERSION}: upgrade Signet"
        )
    if schema.is_behind:
        raise SchemaMismatch(f"{where}, and this version of Signet needs {SCHEMA_VERSION}: run 'signet ledger upgrade'")
