"""Who may use what is behind FastAPI. The key is asked for before FastAPI sees a request, and before its body is read.

Every path that is not in `PUBLIC_PATHS` needs a key, whatever routes are added; what is below `/admin` an
administrator's. `principal` and `administrator` are dependencies that tell a route whose key it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.routing import BaseRoute, Match, Route

from serving.gateway.admission.local_work import LocalWork
from serving.gateway.asgi import read_body, send_error
from serving.gateway.context import new_request_id
from serving.gateway.errors import BadRequest, Forbidden, GatewayError, MethodNotAllowed, NotFound, TooLarge
from serving.gateway.steps.authenticate import presented_key, verify
from serving.gateway.steps.reserve import reserve_local_work
from serving.http.asgi import EXTENSION, Client, Message, Receive, Scope, Send, encode_headers
from serving.http.errors import ClientGone
from serving.identity import Identity, Limiter, Principal

PUBLIC_PATHS = frozenset({"/", "/docs", "/openapi.json", "/v1/provenance/keys", "/.well-known/jwks.json"})
"""Besides `/healthz`, `/readyz`, `/readyz/engines` and `/metrics`, which do not come here."""
ADMIN = "/admin/"
MAX_VALUES = 200_000
"""Of a JSON body: it is decoded on the event loop, two hundred thousand values in some 40 ms."""

_AT_A_TIME = {"/v1/provenance/detect": 1, "/v1/moderations": 2}
"""Detection is arithmetic: more at a time would only take the core from the answers."""
_OTHERS_AT_A_TIME = 8

# Reads nothing by itself: it tells the documentation of the API how to authenticate.
_DOCUMENTED = HTTPBearer(auto_error=False, description="An API key, or a token of the configured issuer.")


async def principal(request: Request, _: Annotated[object, Depends(_DOCUMENTED)]) -> Principal:
    """The holder of the request's key or token."""
    holder: Principal = request.state.principal
    return holder


async def administrator(holder: Annotated[Principal, Depends(principal)], response: Response) -> Principal:
    """The same, of administrators only; what they are told, new keys among it, is kept by nothing on the way."""
    response.headers["cache-control"] = "no-store"
    return _let_in(holder)


def _let_in(holder: Principal) -> Principal:
    if not holder.admin:
        raise Forbidden(
            "This needs an administrator's key: 'signet keys create --tenant NAME --admin'.", code="admin_only"
        )
    return holder


class AuthenticationMiddleware:
    """ASGI: in front of `app`, asks for the key and only then reads the body, up to a bound.

    Args:
        app: with all its routes.
        identity: knows the keys.
        limiter: of keys and tenants. Each request but an administrator's counts as one, and its body as tokens.
        max_body_bytes: the bound now; a reload of the settings may change it.
        count_error: told the code of every refusal, on the event loop.
    """

    def __init__(
        self,
        app: FastAPI,
        identity: Identity,
        limiter: Limiter,
        max_body_bytes: Callable[[], int],
        count_error: Callable[[str], None],
    ) -> None:
        self._app = app
        self._limiter = limiter
        self._work = {path: LocalWork(most) for path, most in _AT_A_TIME.items()}
        self._other_work = LocalWork(_OTHERS_AT_A_TIME)
        self._identity = identity
        self._max_body_bytes = max_body_bytes
        self._count_error = count_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        own = [(b"x-request-id", new_request_id().encode())]

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        try:
            routes = list(self._routes(scope))
            if not routes:
                raise NotFound(f"There is no {scope['path'][:200]!r} here; see /docs.")
            if scope["path"] not in PUBLIC_PATHS:
                scope["state"] = {"principal": await self._authenticate(scope)}
            route = _taking(scope["method"], routes, scope["path"])
            body = b""
            if isinstance(route, APIRoute) and route.body_field is not None:
                body = await self._body(scope, receive)
                receive = _replayed(body, receive)
            if scope["path"] in PUBLIC_PATHS or scope["path"].startswith(ADMIN):
                await self._app(scope, receive, named)
                return
            holder: Principal = scope["state"]["principal"]
            with await reserve_local_work(self._limiter, holder, len(body)) as lease:
                own += encode_headers(lease.headers)
                async with self._work.get(scope["path"], self._other_work).slot(holder, len(body)):
                    await self._app(scope, receive, named)
                    lease.settle(lease.tokens)
        except GatewayError as error:
            self._count_error(error.code)
            await send_error(send, error, own)
            return
        except ClientGone:
            return

    def _routes(self, scope: Scope) -> Iterator[BaseRoute]:
        """Those of this path, whatever the method."""
        return (route for route in self._app.routes if route.matches(scope)[0] is not Match.NONE)

    async def _authenticate(self, scope: Scope) -> Principal:
        """Raises: as `steps.authenticate`; Forbidden where it takes an administrator."""
        client: Client = scope["extensions"][EXTENSION]
        presented = presented_key(client.headers)
        holder = self._identity.authenticate(presented) or await verify(presented, self._identity)
        return _let_in(holder) if scope["path"].startswith(ADMIN) else holder

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Raises: TooLarge, by its announced length before any of it is read; BadRequest: too many values."""
        client: Client = scope["extensions"][EXTENSION]
        limit = self._max_body_bytes()
        if int(client.headers.get(b"content-length", b"0")) > limit:
            raise TooLarge(f"The request body is larger than {limit} bytes.")
        body = await read_body(receive, limit)
        if _has_too_many_values(body):
            raise BadRequest(f"The body has more than {MAX_VALUES} values.", code="request_too_complex")
        return body


def _has_too_many_values(body: bytes) -> bool:
    """By what stands between a JSON text's values; in linear time, also for what is no JSON."""
    if _separators(body) <= MAX_VALUES:
        return False
    outside_strings = body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2]
    return _separators(b"".join(outside_strings)) > MAX_VALUES


def _separators(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _taking(method: str, routes: list[BaseRoute], path: str) -> BaseRoute:
    """The route that takes `method`.

    Raises:
        MethodNotAllowed: none does.
    """
    allowed: set[str] = set()
    for route in routes:
        methods = route.methods if isinstance(route, Route | APIRoute) and route.methods else set()
        if method in methods:
            return route
        allowed |= methods
    listed = ", ".join(sorted(allowed))
    raise MethodNotAllowed(f"{path} takes {listed}, not {method}.", headers=((b"allow", listed.encode()),))


def _replayed(body: bytes, receive: Receive) -> Receive:
    """ASGI's `receive` of a body that has been read; behind it what comes from the client."""
    handed_over = False

    async def receive_again() -> Message:
        nonlocal handed_over
        if handed_over:
            return await receive()
        handed_over = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
