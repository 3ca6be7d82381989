"""`/admin/keys`."""

# No `from __future__ import annotations`: FastAPI could not resolve dependencies that are local values.

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response

from serving.gateway.api.access import administrator
from serving.gateway.api.admin.changes import Audit, change, read
from serving.gateway.api.admin.schemas import (
    MAX_PAGE,
    BudgetRequest,
    KeyFields,
    KeyPage,
    KeyView,
    NewKeyRequest,
    NewKeyView,
    Plain,
    RotateRequest,
    key_view,
)
from serving.gateway.api.admin.versions import IfMatch, expected_version, set_etag
from serving.identity import Budget, Identity, Principal
from serving.identity.amounts import parse_dollars
from serving.identity.principal import BudgetPeriod
from serving.identity.store import new_key_id


def key_routes(identity: Identity, audit: Audit) -> APIRouter:
    """Make, change, rotate, revoke and list keys."""
    routes = APIRouter(prefix="/admin/keys", tags=["admin: keys"])
    Admin = Annotated[Principal, Depends(administrator)]

    @routes.get("")
    async def list_keys(
        who: Admin,
        tenant: Plain | None = None,
        after: Annotated[Plain | None, Query(description="Begin behind this key.")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    ) -> KeyPage:
        """Keys, revoked ones too, oldest first; never their secrets."""
        infos = await read(lambda: identity.list_keys(tenant, after, limit + 1))
        page = [key_view(info) for info in infos[:limit]]
        return KeyPage(data=page, next=page[-1].id if len(infos) > limit else None)

    @routes.post("", status_code=201)
    async def create_key(
        who: Admin,
        request: NewKeyRequest,
        idempotency_key: Annotated[
            str | None, Header(max_length=200, description="Any text; repeating the request makes no second key.")
        ] = None,
    ) -> NewKeyView:
        """Make a key. Its secret is in this answer and nowhere else.

        A repeated request with the same `Idempotency-Key` is refused with 409 and the first key's id: rotate it when
        its secret did not arrive.
        """
        fields = request.given()
        tenant, key_id = fields.pop("tenant"), new_key_id()
        details = {**request.model_dump(mode="json", exclude_unset=True)}
        made = await change(
            audit,
            who,
            "key.create",
            key_id,
            details,
            lambda: identity.create_key(tenant, key_id=key_id, idempotency_key=idempotency_key, **fields),
        )
        return NewKeyView(id=made.id, key=made.key, tenant=made.tenant)

    @routes.get("/{key_id}")
    async def show_key(who: Admin, key_id: Plain, response: Response) -> KeyView:
        """One key."""
        return await _shown(key_id, response)

    @routes.patch("/{key_id}")
    async def update_key(
        who: Admin, key_id: Plain, request: KeyFields, response: Response, if_match: IfMatch = None
    ) -> KeyView:
        """Change what the body names; the rest stays."""
        expected, changes = expected_version(if_match), request.given()
        details = request.model_dump(mode="json", exclude_unset=True)
        info = await change(
            audit, who, "key.update", key_id, details, lambda: identity.update_key(key_id, expected, **changes)
        )
        set_etag(response, info.version)
        return key_view(info)

    @routes.post("/{key_id}/rotate")
    async def rotate_key(who: Admin, key_id: Plain, request: RotateRequest, if_match: IfMatch = None) -> NewKeyView:
        """Give a key a new secret, under the same id; it is in this answer and nowhere else.

        With `If-Match` a repeated request is refused instead of replacing the secret again.
        """
        expected, grace_s = expected_version(if_match), request.grace_s
        made = await change(
            audit,
            who,
            "key.rotate",
            key_id,
            {"grace_s": grace_s},
            lambda: identity.rotate_key(key_id, grace_s, expected),
        )
        return NewKeyView(id=made.id, key=made.key, tenant=made.tenant)

    @routes.post("/{key_id}/revoke")
    async def revoke_key(who: Admin, key_id: Plain, response: Response) -> KeyView:
        """End a key for good, everywhere before this answers. Repeating it changes nothing."""
        await change(audit, who, "key.revoke", key_id, {}, lambda: identity.revoke(key_id))
        return await _shown(key_id, response)

    @routes.put("/{key_id}/budgets/{period}")
    async def set_budget(
        who: Admin, key_id: Plain, period: BudgetPeriod, request: BudgetRequest, response: Response
    ) -> KeyView:
        """Set what the key may spend in a day, in a calendar month (UTC), or in all."""
        amount = str(request.amount_usd)
        await change(
            audit,
            who,
            "key.budget",
            key_id,
            {"period": period, "amount_usd": amount},
            lambda: identity.set_budget(Budget("key", key_id, period, parse_dollars(amount))),
        )
        return await _shown(key_id, response)

    @routes.delete("/{key_id}/budgets/{period}")
    async def remove_budget(who: Admin, key_id: Plain, period: BudgetPeriod, response: Response) -> KeyView:
        """Lift a budget."""
        details: dict[str, Any] = {"period": period, "amount_usd": None}
        await change(audit, who, "key.budget", key_id, details, lambda: identity.remove_budget("key", key_id, period))
        return await _shown(key_id, response)

    async def _shown(key_id: str, response: Response) -> KeyView:
        info = await read(lambda: identity.key(key_id))
        set_etag(response, info.version)
        return key_view(info)

    return routes
