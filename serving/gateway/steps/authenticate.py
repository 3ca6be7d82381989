"""Who asks, and for which endpoints and models their key was made."""

from __future__ import annotations

from serving.gateway.context import RequestContext
from serving.gateway.errors import BadRequest, Forbidden, IdentityUnavailable, Unauthorized
from serving.identity import Identity, Principal, Rejected

# RFC 9110: every 401 says how to authenticate.
BEARER = ((b"www-authenticate", b"Bearer"),)


async def authenticate(context: RequestContext, identity: Identity) -> RequestContext:
    """Find the holder of the key or token. Waits only for a token's issuer, or its first check.

    Raises:
        BadRequest: two different keys.
        Unauthorized: no key, or none that is known, valid and not revoked.
        Forbidden: the holder is known and not let in.
        IdentityUnavailable: a token cannot be checked just now.
    """
    presented = presented_key(context.headers)
    principal = identity.authenticate(presented)
    context.principal = principal if principal is not None else await verify(presented, identity)
    return context


def presented_key(headers: dict[bytes, bytes]) -> str:
    """The key or token of a request, in `Authorization` or, as Anthropic's clients send it, in `X-Api-Key`.

    Raises:
        Unauthorized: there is none.
        BadRequest: there are two, and whose request it is depends on who reads it.
    """
    authorization, key = headers.get(b"authorization"), headers.get(b"x-api-key")
    if not key:
        return bearer_of((authorization or b"").decode("latin-1"))
    presented = key.decode("latin-1").strip()
    if authorization and bearer_of(authorization.decode("latin-1")) != presented:
        raise BadRequest("'Authorization' and 'X-Api-Key' hold different keys. Send one of them.", code="two_api_keys")
    return presented


def bearer_of(authorization: str) -> str:
    """The key or token in an `Authorization` header.

    Raises:
        Unauthorized: there is none.
    """
    scheme, _, presented = authorization.partition(" ")
    presented = presented.strip()
    if scheme.lower() != "bearer" or not presented:
        raise Unauthorized(
            "No API key was given. Send it as 'Authorization: Bearer KEY'.", code="missing_api_key", headers=BEARER
        )
    return presented


async def verify(presented: str, identity: Identity) -> Principal:
    """The holder of what `identity.authenticate` does not know, as the gateway's errors say it.

    Raises: as `authenticate`.
    """
    try:
        return await identity.verify(presented)
    except Rejected as no:
        if no.status == 401:
            raise Unauthorized(no.message, code=no.code, headers=BEARER) from None
        if no.status == 403:
            raise Forbidden(no.message, code=no.code) from None
        raise IdentityUnavailable(no.message, code=no.code, headers=((b"retry-after", b"5"),)) from None


def check_endpoint(context: RequestContext) -> RequestContext:
    """Keep a key to the kinds of requests it was made for.

    Raises:
        Forbidden: it was made for others.
    """
    assert context.principal is not None
    if not context.principal.may_use_endpoint(context.endpoint.name):
        raise Forbidden(f"This key may not be used for {context.endpoint.name}.", code="endpoint_not_allowed")
    return context


def check_scope(context: RequestContext) -> RequestContext:
    """Keep a key to the models, aliases and templates it was made for, by the name that the client wrote.

    Asked before whether there is such a model: the answer does not tell what else is served.

    Raises:
        Forbidden: it was made for others.
    """
    allow_model(context, context.question.model)
    return context


def allow_model(context: RequestContext, name: str) -> None:
    """Let the key's holder choose this name.

    Raises:
        Forbidden: the key was made for others.
    """
    assert context.principal is not None
    if not context.principal.may_use_model(name):
        raise Forbidden(
            f"This key may not use the model {name[:200]!r}. 'GET /v1/models' lists those it may.",
            code="model_not_allowed",
            param="model",
        )
