"""`/admin/adapters`."""

# No `from __future__ import annotations`: FastAPI could not resolve dependencies that are local values.

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends

from serving.gateway.adapters import Adapters, find_live_adapter
from serving.gateway.api.access import administrator
from serving.gateway.api.admin.changes import Audit, change, read
from serving.gateway.api.admin.schemas import AdapterList, AdapterProgress, AdapterView, AdapterWanted, Plain
from serving.gateway.errors import BadRequest, NotFound
from serving.identity import Identity, LiveAdapter, Principal
from training.registry import RegistryError, UnknownCheckpoint

# An engine reads an adapter in a second or two; the answer says which are still at it.
WAIT_S = 15.0


def adapter_routes(identity: Identity, adapters: Adapters, audit: Audit, home: Path) -> APIRouter:
    """List, load and unload the LoRA adapters that engines serve beside their base."""
    routes = APIRouter(prefix="/admin/adapters", tags=["admin: adapters"])
    Admin = Annotated[Principal, Depends(administrator)]

    @routes.get("")
    async def list_adapters(who: Admin) -> AdapterList:
        """What is to be served, and how far each engine is with it, as this process sees it."""
        return AdapterList(data=[_view(adapter) for adapter in identity.live_adapters.values()])

    @routes.put("/{name}")
    async def load_adapter(who: Admin, name: Plain, wanted: AdapterWanted | None = None) -> AdapterView:
        """Verify a version of the registry and have every engine of its base serve it, in place of another one."""
        ref = name if wanted is None or wanted.version is None else f"{name}@{wanted.version}"
        adapter = await read(lambda: _found(home, ref))
        if adapter.name != name:
            raise BadRequest(f"{name[:200]!r} is not a checkpoint's name: give its version in the body.")
        details = {"version": adapter.version, "digest": adapter.digest}
        loaded = await change(audit, who, "adapter.load", name, details, lambda: identity.load_adapter(adapter))
        adapters.forget_refusals(loaded.served_name)
        await adapters.settle(WAIT_S)
        return _view(loaded)

    @routes.delete("/{name}")
    async def unload_adapter(who: Admin, name: Plain) -> AdapterList:
        """Have no engine serve it any more; answers under way finish. Returns what is left."""
        await change(audit, who, "adapter.unload", name, {}, lambda: identity.unload_adapter(name))
        await adapters.settle(WAIT_S)
        return AdapterList(data=[_view(adapter) for adapter in identity.live_adapters.values()])

    def _view(adapter: LiveAdapter) -> AdapterView:
        return AdapterView(
            name=adapter.name,
            version=adapter.version,
            digest=adapter.digest,
            base=adapter.base,
            engines=[
                AdapterProgress(engine=step.engine, state=step.state, reason=step.reason)
                for step in adapters.progress(adapter)
            ],
        )

    return routes


def _found(home: Path, ref: str) -> LiveAdapter:
    try:
        return find_live_adapter(home, ref)
    except UnknownCheckpoint as error:
        raise NotFound(f"There is no such adapter here: {error}.") from None
    except RegistryError as error:
        raise BadRequest(f"It cannot be served: {error}.", code="adapter_refused") from None
