"""`/admin/engines`."""

# No `from __future__ import annotations`: FastAPI could not resolve dependencies that are local values.

from typing import Annotated

from fastapi import APIRouter, Depends

from serving.gateway.api.access import administrator
from serving.gateway.api.admin.changes import Audit, change
from serving.gateway.api.admin.schemas import EngineList, EngineView, Plain
from serving.gateway.engines.drains import Drains
from serving.gateway.engines.engine import Engine
from serving.gateway.engines.pool import EnginePool
from serving.gateway.errors import NotFound
from serving.identity import Identity, Principal


def engine_routes(identity: Identity, pool: EnginePool, drains: Drains, audit: Audit) -> APIRouter:
    """List engines; take one out of service and back."""
    routes = APIRouter(prefix="/admin/engines", tags=["admin: engines"])
    Admin = Annotated[Principal, Depends(administrator)]

    @routes.get("")
    async def list_engines(who: Admin) -> EngineList:
        """Every engine with its health and load, as this process sees them."""
        return EngineList(data=[_view(engine) for engine in pool.engines])

    @routes.post("/{name:path}/drain")
    async def drain_engine(who: Admin, name: Plain) -> EngineView:
        """Send it no new requests, from any gateway of this database; those it works on finish."""
        return await _set_drained(who, name, True)

    @routes.post("/{name:path}/undrain")
    async def undrain_engine(who: Admin, name: Plain) -> EngineView:
        """Send it requests again."""
        return await _set_drained(who, name, False)

    async def _set_drained(who: Principal, name: str, drained: bool) -> EngineView:
        engine = next((engine for engine in pool.engines if engine.name == name), None)
        if engine is None:
            raise NotFound(f"There is no engine {name[:200]!r}; 'GET /admin/engines' lists them.")
        action = "engine.drain" if drained else "engine.undrain"
        await change(audit, who, action, name, {}, lambda: identity.set_drained(name, drained))
        drains.look()
        return _view(engine)

    def _view(engine: Engine) -> EngineView:
        return EngineView(
            name=engine.name,
            url=engine.url.rpartition("@")[2] if "@" in engine.url else engine.url,
            up=engine.up,
            draining=engine.draining,
            drained_by_admin=engine.name in identity.drained_engines,
            circuit=engine.circuit.state,
            in_flight=engine.in_flight,
            load=round(engine.load),
            kv_usage=engine.kv_usage,
            limit=engine.limit.limit if engine.limit is not None else None,
            models=sorted(engine.cards),
            can_mark=engine.has_plugin,
        )

    return routes
