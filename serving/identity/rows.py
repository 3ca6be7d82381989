"""From the database's rows to values."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, Row, select

from serving.identity.adapter import LiveAdapter
from serving.identity.principal import Budget, KeyInfo, Limits, MarkDefault, MarkPolicy, Principal, TenantInfo
from serving.identity.schema import api_keys, budgets, drained_engines, live_adapters, retired_secrets, tenants

Budgets = dict[tuple[str, str], tuple[Budget, ...]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the gateway keeps in memory of the database."""

    principals: dict[bytes, Principal]
    """Every secret that may authenticate now or until it expires, by its digest."""
    tenants: dict[str, TenantInfo]
    suspended: frozenset[bytes]
    """Digests of secrets whose tenant is suspended."""
    drained: frozenset[str]
    """Names of engines that an administrator drains."""
    adapters: dict[str, LiveAdapter]
    """Adapters that engines are to serve, by name."""


def load_snapshot(connection: Connection) -> Snapshot:
    """Read everything that a running gateway needs.

    A secret that a rotation replaced expires when its grace does; the others when their key does.
    """
    # Each statement sees what is there when it begins. Keys before their tenants: those are never removed, so the
    # tenant of a key that was made meanwhile is not missing.
    replaced = connection.execute(select(retired_secrets)).all()
    rows = connection.execute(select(api_keys).where(api_keys.c.revoked_at.is_(None))).all()
    spending = load_budgets(connection)
    known = {row.name: tenant_info(row, spending) for row in connection.execute(select(tenants))}
    by_id = {row.id: _principal(row, known[row.tenant], spending) for row in rows}
    secrets = {row.digest: by_id[row.id] for row in rows}
    for retired in replaced:
        if (holder := by_id.get(retired.key_id)) is not None:
            ends = [moment for moment in (retired.valid_until, holder.expires_at) if moment is not None]
            secrets[retired.digest] = replace(holder, expires_at=min(ends))
    suspended = {digest for digest, holder in secrets.items() if known[holder.tenant].suspended_at is not None}
    welcome = {digest: holder for digest, holder in secrets.items() if digest not in suspended}
    drained = frozenset(connection.scalars(select(drained_engines.c.engine)))
    adapters = {row.name: LiveAdapter(**row._mapping) for row in connection.execute(select(live_adapters))}
    return Snapshot(welcome, known, frozenset(suspended), drained, adapters)


def load_budgets(connection: Connection, *where: ColumnElement[bool]) -> Budgets:
    """Budgets by scope and owner."""
    by_owner: Budgets = {}
    for row in connection.execute(select(budgets).where(*where).order_by(budgets.c.period)):
        owner = (row.scope, row.owner)
        by_owner[owner] = (*by_owner.get(owner, ()), Budget(row.scope, row.owner, row.period, row.amount_nanos))
    return by_owner


def tenant_info(row: Row[Any], spending: Budgets) -> TenantInfo:
    return TenantInfo(
        name=row.name,
        created_at=row.created_at,
        note=row.note,
        suspended_at=row.suspended_at,
        weight=row.weight,
        priority=row.priority,
        limits=_limits(row),
        budgets=spending.get(("tenant", row.name), ()),
        keep_feedback_text=row.keep_feedback_text,
        version=row.version,
    )


def key_info(row: Row[Any], spending: Budgets) -> KeyInfo:
    return KeyInfo(
        id=row.id,
        tenant=row.tenant,
        hint=row.hint,
        admin=row.admin,
        limits=_limits(row),
        mark=_mark_policy(row),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        name=row.name,
        note=row.note,
        models=_names(row.models),
        endpoints=_names(row.endpoints),
        expires_at=row.expires_at,
        rotated_at=row.rotated_at,
        last_used_at=row.last_used_at,
        budgets=spending.get(("key", row.id), ()),
        version=row.version,
    )


def _principal(key: Row[Any], tenant: TenantInfo, spending: Budgets) -> Principal:
    return Principal(
        key_id=key.id,
        tenant=key.tenant,
        admin=key.admin,
        limits=_limits(key),
        mark=_mark_policy(key),
        models=_frozen(_names(key.models)),
        endpoints=_frozen(_names(key.endpoints)),
        expires_at=key.expires_at,
        weight=tenant.weight,
        priority=tenant.priority,
        tenant_limits=tenant.limits,
        budgets=spending.get(("key", key.id), ()) + tenant.budgets,
    )


def _limits(row: Row[Any]) -> Limits:
    return Limits(row.requests_per_minute, row.tokens_per_minute, row.concurrency)


def _mark_policy(row: Row[Any]) -> MarkPolicy:
    return MarkPolicy(cast(MarkDefault, row.mark_default), row.mark_allowed)


def _names(stored: str | None) -> tuple[str, ...] | None:
    """The names in a column of scopes; None: all."""
    return None if stored is None else tuple(json.loads(stored))


def _frozen(names: Iterable[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)
