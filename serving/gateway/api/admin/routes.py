"""All routes of the admin API together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter

from serving.database import Reader
from serving.gateway.adapters import Adapters
from serving.gateway.api.admin.adapters import adapter_routes
from serving.gateway.api.admin.audit import audit_routes
from serving.gateway.api.admin.changes import Audit
from serving.gateway.api.admin.engines import engine_routes
from serving.gateway.api.admin.feedback import feedback_routes
from serving.gateway.api.admin.keys import key_routes
from serving.gateway.api.admin.reload import reload_routes
from serving.gateway.api.admin.tenants import tenant_routes
from serving.gateway.api.admin.usage import usage_routes
from serving.gateway.engines.drains import Drains
from serving.gateway.engines.pool import EnginePool
from serving.identity import Identity


def admin_routes(
    identity: Identity,
    pool: EnginePool,
    drains: Drains,
    adapters: Adapters,
    home: Path,
    audit: Audit,
    records: Reader,
    reports: Reader,
    receipt_keys: Path,
    reload: Callable[[], list[str]],
) -> list[APIRouter]:
    """Routes for the application that serves what is not hot.

    Args:
        identity: tenants and keys.
        pool: the engines.
        drains: what takes them out of service.
        adapters: what brings them adapters.
        home: where the registry and its keys are.
        audit: the ledger; every change is written there first.
        records: the ledger, as its writers have it.
        reports: the ledger, perhaps of a replica.
        receipt_keys: the file that receipts are signed with, should there be one.
        reload: reads the settings again; returns what changed, or raises SettingsError.
    """
    return [
        tenant_routes(identity, audit),
        key_routes(identity, audit),
        engine_routes(identity, pool, drains, audit),
        adapter_routes(identity, adapters, audit, home),
        usage_routes(reports),
        feedback_routes(identity.database, home),
        audit_routes(identity.database, records, receipt_keys),
        reload_routes(reload, audit),
    ]
