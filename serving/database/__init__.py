"""The database that identity and ledger share: its address, its engine, its schema.

In comes a URL, out goes an engine whose tables are those of this version. What the tables are for, their rooms know.
"""

from serving.database.engine import DatabaseAway, DatabaseError, explain, explained, metadata, open_engine
from serving.database.migrate import SchemaCheck, migrate
from serving.database.reading import Reader, ReadTimeout
from serving.database.settings import DatabaseSettings, Migrate

__all__ = [
    "DatabaseAway",
    "DatabaseError",
    "DatabaseSettings",
    "Migrate",
    "ReadTimeout",
    "Reader",
    "SchemaCheck",
    "explain",
    "explained",
    "metadata",
    "migrate",
    "open_engine",
]
