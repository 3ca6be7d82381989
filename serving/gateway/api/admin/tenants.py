"""`/admin/tenants`."""

# No `from __future__ import annotations`: FastAPI could not resolve dependencies that are local values.

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from serving.gateway.api.access import administrator
from serving.gateway.api.admin.changes import Audit, change, read
from serving.gateway.api.admin.schemas import (
    MAX_PAGE,
    BudgetRequest,
    NewTenantRequest,
    Plain,
    TenantFields,
    TenantPage,
    TenantView,
    tenant_view,
)
from serving.gateway.api.admin.versions import IfMatch, expected_version, set_etag
from serving.identity import Budget, Identity, Principal
from serving.identity.amounts import parse_dollars
from serving.identity.principal import BudgetPeriod


def tenant_routes(identity: Identity, audit: Audit) -> APIRouter:
    """Make, change and list tenants."""
    routes = APIRouter(prefix="/admin/tenants", tags=["admin: tenants"])
    Admin = Annotated[Principal, Depends(administrator)]

    @routes.get("")
    async def list_tenants(
        who: Admin,
        after: Annotated[Plain | None, Query(description="Begin behind this name.")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    ) -> TenantPage:
        """Tenants by name."""
        infos = await read(lambda: identity.list_tenants(after, limit + 1))
        page = [tenant_view(info) for info in infos[:limit]]
        return TenantPage(data=page, next=page[-1].name if len(infos) > limit else None)

    @routes.post("", status_code=201)
    async def create_tenant(who: Admin, request: NewTenantRequest, response: Response) -> TenantView:
        """Make a tenant; 409 where there is one of this name."""
        fields = request.given()
        name = fields.pop("name")
        details = request.model_dump(mode="json", exclude_unset=True)
        info = await change(
            audit, who, "tenant.create", name[:80], details, lambda: identity.create_tenant(name, **fields)
        )
        set_etag(response, info.version)
        return tenant_view(info)

    @routes.get("/{name}")
    async def show_tenant(who: Admin, name: Plain, response: Response) -> TenantView:
        """One tenant."""
        return await _shown(name, response)

    @routes.patch("/{name}")
    async def update_tenant(
        who: Admin, name: Plain, request: TenantFields, response: Response, if_match: IfMatch = None
    ) -> TenantView:
        """Change what the body names; the rest stays."""
        expected, changes = expected_version(if_match), request.given()
        details = request.model_dump(mode="json", exclude_unset=True)
        info = await change(
            audit, who, "tenant.update", name, details, lambda: identity.update_tenant(name, expected, **changes)
        )
        set_etag(response, info.version)
        return tenant_view(info)

    @routes.put("/{name}/budgets/{period}")
    async def set_budget(
        who: Admin, name: Plain, period: BudgetPeriod, request: BudgetRequest, response: Response
    ) -> TenantView:
        """Set what all its keys together may spend in a day, in a calendar month (UTC), or in all."""
        amount = str(request.amount_usd)
        await change(
            audit,
            who,
            "tenant.budget",
            name,
            {"period": period, "amount_usd": amount},
            lambda: identity.set_budget(Budget("tenant", name, period, parse_dollars(amount))),
        )
        return await _shown(name, response)

    @routes.delete("/{name}/budgets/{period}")
    async def remove_budget(who: Admin, name: Plain, period: BudgetPeriod, response: Response) -> TenantView:
        """Lift a budget."""
        details: dict[str, Any] = {"period": period, "amount_usd": None}
        await change(audit, who, "tenant.budget", name, details, lambda: identity.remove_budget("tenant", name, period))
        return await _shown(name, response)

    async def _shown(name: str, response: Response) -> TenantView:
        info = await read(lambda: identity.tenant(name))
        set_etag(response, info.version)
        return tenant_view(info)

    return routes
