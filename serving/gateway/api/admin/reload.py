"""`/admin/reload`."""

# No `from __future__ import annotations`: FastAPI could not resolve dependencies that are local values.

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from serving.errors import SettingsError
from serving.gateway.api.access import administrator
from serving.gateway.api.admin.changes import Audit, change
from serving.gateway.errors import BadRequest
from serving.identity import Principal


class Reloaded(BaseModel):
    """What a reload did."""

    changed: list[str] = Field(description="Settings that are others now, dotted; none when the file says what it did.")


def reload_routes(reload: Callable[[], list[str]], audit: Audit) -> APIRouter:
    """Take the settings file over, all of it or none."""
    routes = APIRouter(prefix="/admin", tags=["admin: settings"])
    Admin = Annotated[Principal, Depends(administrator)]

    @routes.post("/reload")
    async def reload_settings(who: Admin) -> Reloaded:
        """Read the settings again, in every worker; where they cannot be used nothing changes and 400 says why."""
        await change(audit, who, "settings.reload", "gateway", {}, lambda: None)
        try:
            # On the event loop: no request may meet parts of two settings.
            return Reloaded(changed=reload())
        except SettingsError as error:
            message = str(error)
            raise BadRequest(message[:1].upper() + message[1:], code="settings_refused") from None

    return routes
