"""Settings of identity."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

# Signed with a private key only the issuer has. Symmetric ones are missing on purpose: who can check could forge.
TokenAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_LIMITS_SCHEMES = ("redis://", "rediss://", "valkey://", "valkeys://", "unix://")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class TokenGrant(BaseModel):
    """What one value in a token allows."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    admin: bool = False
    """May use /admin."""
    models: list[str] | None = None
    """Models, aliases and templates, patterns as `llama-*` too; unset: all."""
    endpoints: list[str] | None = None
    """Kinds of requests, as `signet keys create --endpoint` takes them; unset: all."""


class JwtSettings(BaseModel):
    """Tokens of an OpenID Connect provider (or any issuer of JWTs) as an alternative to API keys."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    issuer: str | None = None
    """Who signs the tokens (their `iss`), as `https://login.example.com/realms/team`; unset: keys only."""
    audience: list[str] = []
    """A token must be meant for one of these (its `aud`)."""
    jwks: str | None = None
    """URL or file of the issuer's public keys; unset: found by `/.well-known/openid-configuration`."""
    ca_file: Path | None = None
    """Certificates to trust when keys are fetched, in place of the system's."""
    algorithms: list[TokenAlgorithm] = Field(default=["RS256", "PS256", "ES256", "EdDSA"], min_length=1)
    """Signatures to accept."""
    tenant_claim: str = "tenant"
    """The claim that names the tenant; dots lead into nested ones."""
    tenants: dict[str, str] = {}
    """From the claim's value to a tenant's name; unset: the value is the name."""
    create_tenants: bool = False
    """Make a tenant that is not there yet; otherwise its tokens are refused."""
    grants_claim: str = "scope"
    """The claim with the values that `grants` names: a list, or words in a string; dots lead into nested ones."""
    grants: dict[str, TokenGrant] = {}
    """From a value to what it allows; several add up; a token with none of them is refused. Unset: every token may
    use every model and endpoint, and no token is an admin's."""
    leeway_s: float = Field(default=30.0, ge=0, le=300)
    """How far the issuer's clock may be from this one."""
    refresh_interval_s: float = Field(default=300.0, gt=0)
    """Seconds between two looks at the issuer's keys; an unknown key is looked for at once."""
    fetch_timeout_s: float = Field(default=5.0, gt=0)
    """Seconds after which a look at the issuer's keys has failed; the keys known so far stay."""

    @model_validator(mode="after")
    def _is_complete(self) -> JwtSettings:
        if self.issuer is None:
            return self
        if not self.audience:
            raise ValueError("audience must name at least one; without it tokens meant for others would be let in")
        source = self.issuer if self.jwks is None else self.jwks
        if (self.jwks is None or "://" in self.jwks) and not is_trustworthy(source):
            raise ValueError(f"keys are fetched by https only, not from {source!r}")
        return self


def is_trustworthy(url: str) -> bool:
    """Whether what comes from there cannot have been changed on the way: https, or this machine."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    )


class IdentitySettings(BaseModel):
    """How a running gateway knows who asks."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    poll_interval_s: float = Field(default=1.0, gt=0)
    """Seconds between two looks at the database for changes of keys, where nobody tells of them sooner."""
    last_used_interval_s: float = Field(default=60.0, gt=0)
    """When keys were last used is written this often."""
    limits_url: SecretStr | None = None
    """Redis or Valkey that counts limits and budgets for all replicas: `redis://`, `rediss://` (TLS), `valkey://`,
    `valkeys://` or `unix://`, with user and password. Unset: each gateway counts for itself, all workers together."""
    limits_timeout_s: float = Field(default=0.05, gt=0, le=5)
    """Longest wait for that server; then this gateway counts alone until it is back."""
    limits_lease_s: float = Field(default=10.0, ge=1, le=600)
    """What a killed gateway held there is free again after this time."""
    budget_answer_tokens: int = Field(default=4096, ge=1)
    """Under a budget, the longest answer to a request that names no `max_tokens`: so much is reserved for it."""
    budget_compare_s: float = Field(default=30.0, gt=0)
    """Seconds between two comparisons of what was spent with the ledger."""
    jwt: JwtSettings = JwtSettings()

    @field_validator("limits_url")
    @classmethod
    def _is_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(_LIMITS_SCHEMES):
            raise ValueError(f"must begin with {', '.join(_LIMITS_SCHEMES)}")
        return value
