"""Engines that an administrator drains, and adapters that engines serve while they run.

Kept here, since every gateway of the deployment follows this database.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace

from sqlalchemy import delete, insert, select

from serving.identity.adapter import LiveAdapter
from serving.identity.errors import NotFound
from serving.identity.schema import drained_engines, live_adapters
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


class AdapterStore(Transactions):
    """The live adapters of one deployment."""

    def list_adapters(self) -> list[LiveAdapter]:
        """All, by name."""
        with self._reading() as connection:
            return [LiveAdapter(**row._mapping) for row in connection.execute(select(live_adapters).order_by("name"))]

    def load_adapter(self, adapter: LiveAdapter) -> LiveAdapter:
        """Have it served from now on, in place of another version. Doing it again changes nothing."""
        table = live_adapters
        with self._changing() as connection:
            row = connection.execute(select(table).where(table.c.name == adapter.name)).one_or_none()
            known = LiveAdapter(**row._mapping) if row is not None else None
            if known is not None and replace(known, since=adapter.since) == adapter:
                return known
            loaded = replace(adapter, since=time.time())
            connection.execute(delete(table).where(table.c.name == adapter.name))
            connection.execute(insert(table).values(**asdict(loaded)))
            return loaded

    def unload_adapter(self, name: str) -> None:
        """Have it served no longer. Raises NotFound."""
        with self._changing() as connection:
            gone = connection.execute(delete(live_adapters).where(live_adapters.c.name == name))
            if not gone.rowcount:
                raise NotFound(f"there is no live adapter {name[:200]!r}")
