"""JSON Web Tokens (RFC 7519, RFC 8725): who signed, whether it still holds, and what it lets its bearer do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jwt
from jwt import PyJWK
from jwt.exceptions import ExpiredSignatureError, ImmatureSignatureError, InvalidAudienceError, PyJWTError

from serving.identity.errors import InvalidValue, Rejected
from serving.identity.fields import TENANT_NAME, key_columns
from serving.identity.jwks import KeySet, KeysUnavailable
from serving.identity.settings import JwtSettings, TokenGrant

MAX_TOKEN_CHARS = 16 * 1024
REQUIRED_CLAIMS = ("exp", "iss", "sub", "aud")


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What a token says, in our words."""

    subject_id: str
    """Stands for issuer and subject; the subject itself may be a person's address and goes no further."""
    tenant: str
    admin: bool
    models: frozenset[str] | None
    endpoints: frozenset[str] | None
    expires_at: float
    """Unix seconds, leeway included."""


class TokenVerifier:
    """Checks the tokens of one issuer.

    Raises:
        ValueError: (constructor) the keys' file cannot be read, or a grant names what cannot be granted.
    """

    def __init__(self, settings: JwtSettings) -> None:
        self.settings = settings
        try:
            for grant in settings.grants.values():
                key_columns({"models": grant.models, "endpoints": grant.endpoints})
            self.keys = KeySet(settings)
        except (KeysUnavailable, InvalidValue) as error:
            raise ValueError(str(error)) from None

    async def verify(self, token: str) -> VerifiedToken:
        """Check signature, issuer, audience and times; translate the claims.

        Raises:
            Rejected: with 401 `invalid_token` or `token_expired`, 403 `token_not_allowed`, or 503
                `identity_unavailable` while the issuer's keys were never seen.
        """
        if len(token) > MAX_TOKEN_CHARS:
            raise _invalid("it is too long")
        key_id, algorithm = self._read_header(token)
        key = self.keys.find(key_id, algorithm)
        if key is None:  # a key so new that it was not seen yet, or no key at all
            await self.keys.refetch()
            key = self.keys.find(key_id, algorithm)
        if key is None:
            if not self.keys.is_loaded:
                raise Rejected(
                    "Tokens cannot be checked just now: their issuer does not answer.",
                    code="identity_unavailable",
                    status=503,
                )
            raise _invalid("its key is not known")
        return self._translate(self._decode(token, key))

    def _read_header(self, token: str) -> tuple[str | None, str]:
        try:
            header = jwt.get_unverified_header(token)
        except (PyJWTError, ValueError, RecursionError):
            raise _invalid("it cannot be read") from None
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in self.settings.algorithms:
            raise _invalid("its algorithm is not accepted")
        if key_id is not None and not isinstance(key_id, str):
            raise _invalid("its key id is no text")
        return key_id, algorithm

    def _decode(self, token: str, key: PyJWK) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=list(self.settings.algorithms),
                issuer=self.settings.issuer,
                audience=self.settings.audience,
                leeway=self.settings.leeway_s,
                options={"require": list(REQUIRED_CLAIMS)},
            )
        except ExpiredSignatureError:
            raise Rejected(
                "The token has expired. Get a new one from your identity provider.", code="token_expired"
            ) from None
        except ImmatureSignatureError:
            raise _invalid("it is not valid yet") from None
        except InvalidAudienceError:
            raise _invalid("it is meant for another audience") from None
        except (PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError):
            raise _invalid("signature or claims do not hold") from None

    def _translate(self, claims: dict[str, Any]) -> VerifiedToken:
        settings = self.settings
        named = _claim(claims, settings.tenant_claim)
        tenant = settings.tenants.get(named) if settings.tenants and isinstance(named, str) else named
        if not isinstance(tenant, str) or not TENANT_NAME.fullmatch(tenant):
            raise _not_allowed(f"its claim {settings.tenant_claim!r} names no tenant")
        grants = self._grants(_claim(claims, settings.grants_claim))
        return VerifiedToken(
            subject_id="sub_" + hashlib.sha256(f"{settings.issuer}\n{claims['sub']}".encode()).hexdigest()[:24],
            tenant=tenant,
            admin=any(grant.admin for grant in grants),
            models=_union(grant.models for grant in grants),
            endpoints=_union(grant.endpoints for grant in grants),
            expires_at=float(claims["exp"]) + settings.leeway_s,
        )

    def _grants(self, held: Any) -> list[TokenGrant]:
        if not self.settings.grants:
            return [TokenGrant()]
        values = held.split() if isinstance(held, str) else held if isinstance(held, list) else []
        grants = [
            self.settings.grants[value] for value in values if isinstance(value, str) and value in self.settings.grants
        ]
        if not grants:
            raise _not_allowed(f"its claim {self.settings.grants_claim!r} grants nothing here")
        return grants


def _claim(claims: dict[str, Any], path: str) -> Any:
    """A claim by its name (Auth0's are URLs, with dots in them), else by the path to it."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _union(sets: Iterable[list[str] | None]) -> frozenset[str] | None:
    """All names together; None, which allows all, wins."""
    union: set[str] = set()
    for names in sets:
        if names is None:
            return None
        union.update(names)
    return frozenset(union)


def _invalid(reason: str) -> Rejected:
    return Rejected(f"The token is not valid: {reason}.", code="invalid_token")


def _not_allowed(reason: str) -> Rejected:
    return Rejected(f"The token is valid, but {reason}.", code="token_not_allowed", status=403)
