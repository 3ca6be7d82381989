"""Who may use what is behind FastAPI: dependencies that find the holder of a key or token."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.security import HTTPBearer

from serving.gateway.errors import Forbidden
from serving.gateway.steps import bearer_of, verify
from serving.identity import Identity, Principal

# Reads nothing by itself: it tells the documentation of the API how to authenticate.
_DOCUMENTED = HTTPBearer(auto_error=False, description="An API key, or a token of the configured issuer.")


class Access:
    """The checks of one gateway; each is a dependency that answers with the holder or raises a `GatewayError`."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def principal(self, request: Request, _: Annotated[object, Depends(_DOCUMENTED)]) -> Principal:
        """Anybody with a valid key or token."""
        presented = bearer_of(request.headers.get("authorization", ""))
        return self._identity.authenticate(presented) or await verify(presented, self._identity)

    async def admin(
        self, request: Request, response: Response, _: Annotated[object, Depends(_DOCUMENTED)]
    ) -> Principal:
        """Administrators only; what they are told, new keys among it, is kept by nothing on the way."""
        response.headers["cache-control"] = "no-store"
        who = await self.principal(request, _)
        if not who.admin:
            raise Forbidden(
                "This needs an administrator's key: 'signet keys create --tenant NAME --admin'.", code="admin_only"
            )
        return who
