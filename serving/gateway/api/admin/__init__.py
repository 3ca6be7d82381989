"""The admin API at `/admin/…`: tenants, keys, budgets, engines. Administrators only.

In come requests of an administrator; out go the values of identity and the pool as JSON. Every change is in the audit
chain before it is made. Blocking work runs in threads, so nothing here delays a request that is answered meanwhile.
"""

from serving.gateway.api.admin.routes import admin_routes

__all__ = ["admin_routes"]
