"""Tenants, keys and budgets in the database: every change in one transaction, one after the other."""

from serving.identity.store.budgets import BudgetStore
from serving.identity.store.engines import AdapterStore, EngineStore
from serving.identity.store.keys import KeyStore, new_key_id
from serving.identity.store.tenants import TenantStore

__all__ = ["IdentityStore", "new_key_id"]


class IdentityStore(KeyStore, TenantStore, BudgetStore, EngineStore, AdapterStore):
    """The tenants, keys, budgets, drained engines and live adapters of one database.

    Safe to use from several threads and processes at once.
    Every method raises `IdentityError` when the database cannot be used; the constructor `DatabaseError` too.
    """
