"""Tenants: made, changed, listed."""

from __future__ import annotations

import time
from typing import Any, Unpack

from sqlalchemy import Connection, insert, select, update

from serving.identity.errors import AlreadyExists, NotFound
from serving.identity.fields import TenantFields, check_tenant_name, tenant_columns
from serving.identity.principal import TenantInfo
from serving.identity.rows import load_budgets, tenant_info
from serving.identity.schema import budgets, tenants
from serving.identity.store.transactions import Transactions, check_version


class TenantStore(Transactions):
    """The tenants of one database."""

    def create_tenant(self, name: str, **fields: Unpack[TenantFields]) -> TenantInfo:
        """Make a tenant.

        Raises:
            InvalidValue: the name or a field is not allowed.
            AlreadyExists: there is one of this name.
        """
        check_tenant_name(name)
        columns = tenant_columns(fields)
        with self._changing() as connection:
            if connection.scalar(select(tenants.c.name).where(tenants.c.name == name)) is not None:
                raise AlreadyExists(f"there is a tenant {name!r} already")
            connection.execute(insert(tenants).values(name=name, created_at=time.time(), **columns))
            return tenant_of(connection, name)

    def update_tenant(
        self, name: str, expected_version: int | None = None, **changes: Unpack[TenantFields]
    ) -> TenantInfo:
        """Change what is named and leave the rest.

        Raises:
            InvalidValue: a value is not allowed.
            NotFound: there is no such tenant.
            VersionConflict: its version is not the expected one.
        """
        columns = tenant_columns(changes)
        with self._changing() as connection:
            check_version(tenant_of(connection, name).version, expected_version, f"tenant {name}")
            change_tenant(connection, name, **columns)
            return tenant_of(connection, name)

    def tenant(self, name: str) -> TenantInfo:
        """One tenant.

        Raises:
            NotFound: there is no such tenant.
        """
        with self._reading() as connection:
            return tenant_of(connection, name)

    def list_tenants(self, after: str | None = None, limit: int | None = None) -> list[TenantInfo]:
        """Tenants by name, behind `after`, at most `limit`."""
        query = select(tenants).order_by(tenants.c.name).limit(limit)
        if after is not None:
            query = query.where(tenants.c.name > after)
        with self._reading() as connection:
            spending = load_budgets(connection, budgets.c.scope == "tenant")
            return [tenant_info(row, spending) for row in connection.execute(query)]

    def tenants(self) -> list[str]:
        """The names of all tenants, sorted."""
        with self._reading() as connection:
            return list(connection.scalars(select(tenants.c.name).order_by(tenants.c.name)))


def change_tenant(connection: Connection, name: str, **columns: Any) -> None:
    connection.execute(update(tenants).where(tenants.c.name == name).values(**columns, version=tenants.c.version + 1))


def tenant_of(connection: Connection, name: str) -> TenantInfo:
    row = connection.execute(select(tenants).where(tenants.c.name == name)).one_or_none()
    if row is None:
        raise NotFound(f"there is no tenant {name[:80]!r}: see `signet keys tenants list`")
    return tenant_info(row, load_budgets(connection, budgets.c.scope == "tenant", budgets.c.owner == name))
