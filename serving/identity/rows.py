"""From the database's rows to what the gateway keeps in memory."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Row, select

from serving.identity.principal import Budget, Limits, MarkPolicy, Principal
from serving.identity.schema import api_keys, budgets, retired_secrets, tenants


def load_principals(connection: Connection) -> dict[bytes, Principal]:
    """Every secret that may authenticate now or until it expires, by its digest.

    A secret that a rotation replaced expires when its grace does; the others when their key does.
    """
    tenant_rows = {row.name: row for row in connection.execute(select(tenants))}
    spending = load_budgets(connection)
    live = {
        row.id: row
        for row in connection.execute(select(api_keys).where(api_keys.c.revoked_at.is_(None)))
        if tenant_rows[row.tenant].suspended_at is None
    }
    principals = {row.digest: _principal(row, tenant_rows[row.tenant], spending) for row in live.values()}
    for retired in connection.execute(select(retired_secrets)):
        row = live.get(retired.key_id)
        if row is not None:
            end = retired.valid_until if row.expires_at is None else min(retired.valid_until, row.expires_at)
            principals[retired.digest] = _principal(row, tenant_rows[row.tenant], spending, expires_at=end)
    return principals


def load_budgets(connection: Connection) -> dict[tuple[str, str], tuple[Budget, ...]]:
    """All budgets by scope and owner."""
    found: dict[tuple[str, str], tuple[Budget, ...]] = {}
    for row in connection.execute(select(budgets).order_by(budgets.c.period)):
        owner = (row.scope, row.owner)
        found[owner] = (*found.get(owner, ()), Budget(row.scope, row.owner, row.period, row.amount_nanos))
    return found


def limits_of(row: Row[Any]) -> Limits:
    """Of a key's or a tenant's row."""
    return Limits(row.requests_per_minute, row.tokens_per_minute, row.concurrency)


def mark_policy_of(row: Row[Any]) -> MarkPolicy:
    return MarkPolicy("on" if row.mark_default == "on" else "off", row.mark_allowed)


def names_of(stored: str | None) -> frozenset[str] | None:
    """The names in a column of scopes; None: all."""
    return None if stored is None else frozenset(json.loads(stored))


def _principal(
    key: Row[Any],
    tenant: Row[Any],
    spending: dict[tuple[str, str], tuple[Budget, ...]],
    expires_at: float | None = None,
) -> Principal:
    return Principal(
        key_id=key.id,
        tenant=key.tenant,
        admin=key.admin,
        limits=limits_of(key),
        mark=mark_policy_of(key),
        models=names_of(key.models),
        endpoints=names_of(key.endpoints),
        expires_at=key.expires_at if expires_at is None else expires_at,
        weight=tenant.weight,
        priority=tenant.priority,
        tenant_limits=limits_of(tenant),
        budgets=spending.get(("key", key.id), ()) + spending.get(("tenant", key.tenant), ()),
    )
