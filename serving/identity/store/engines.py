"""Engines that an administrator drains: kept here, since every gateway of the deployment follows this database."""

from __future__ import annotations

import time

from sqlalchemy import delete, insert, select

from serving.identity.schema import drained_engines
from serving.identity.store.transactions import Transactions


class EngineStore(Transactions):
    """The drained engines of one deployment."""

    def set_drained(self, engine: str, drained: bool) -> None:
        """Let an engine take no new requests, or take them again. Doing it again changes nothing."""
        with self._changing() as connection:
            known = connection.scalar(select(drained_engines.c.engine).where(drained_engines.c.engine == engine))
            if drained and known is None:
                connection.execute(insert(drained_engines).values(engine=engine, since=time.time()))
            elif not drained:
                connection.execute(delete(drained_engines).where(drained_engines.c.engine == engine))
