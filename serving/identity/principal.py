"""Who is asking, and what its key may do: values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

MarkDefault = Literal["on", "off", "gumbel", "dual-gumbel", "kgw", "kgw-lefthash", "synthid"]
BudgetScope = Literal["key", "tenant"]
BudgetPeriod = Literal["day", "month", "total"]
ENDPOINTS = ("chat", "completions", "embeddings", "responses", "messages", "tokenize", "detect", "moderations")
"""What a key can be restricted to."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one key, or all keys of one tenant together, may use; None is unlimited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Prompt and completion together."""
    concurrency: int | None = None
    """Requests open at once."""


@dataclass(frozen=True, slots=True)
class MarkPolicy:
    """Whether and how answers are marked."""

    default: MarkDefault = "on"
    allowed: bool = True
    """May the request choose by `X-Signet-Mark`."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Money that may be spent in a period (UTC days and calendar months; `total`: ever)."""

    scope: BudgetScope
    owner: str
    """A key's id, or a tenant's name."""
    period: BudgetPeriod
    amount_nanos: int
    """In 1e-9 US dollars."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a valid key or token."""

    key_id: str
    tenant: str
    admin: bool = False
    limits: Limits = Limits()
    mark: MarkPolicy = MarkPolicy()
    models: frozenset[str] | None = None
    """Names that may be asked for, as the client writes them (aliases and templates too); `*` stands for any
    characters. None: all."""
    endpoints: frozenset[str] | None = None
    """As `RequestContext.endpoint` names them; None: all."""
    expires_at: float | None = None
    """Unix seconds, exclusive."""
    weight: float = 1.0
    """The tenant's share in fair queueing, relative to other tenants'."""
    priority: int = 0
    """The highest that a request may ask for; larger is more urgent."""
    tenant_limits: Limits = Limits()
    """Of all the tenant's keys together."""
    budgets: tuple[Budget, ...] = ()
    """The key's and its tenant's."""

    def may_use_model(self, name: str) -> bool:
        """Whether this model, alias or template may be asked for."""
        models = self.models
        return models is None or name in models or any(fnmatchcase(name, pattern) for pattern in models)

    def may_use_endpoint(self, endpoint: str) -> bool:
        """Whether this kind of request may be made."""
        return self.endpoints is None or endpoint in self.endpoints


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at the only moment it is known in full."""

    id: str
    key: str
    tenant: str

    def __repr__(self) -> str:
        return f"NewKey(id={self.id!r}, tenant={self.tenant!r})"


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What is known of a key afterwards. Times are unix seconds."""

    id: str
    tenant: str
    hint: str
    """The key's last four characters, to tell which one leaked."""
    admin: bool
    limits: Limits
    mark: MarkPolicy
    created_at: float
    revoked_at: float | None
    name: str = ""
    note: str = ""
    models: tuple[str, ...] | None = None
    endpoints: tuple[str, ...] | None = None
    expires_at: float | None = None
    rotated_at: float | None = None
    last_used_at: float | None = None
    """As of a minute ago or so."""
    budgets: tuple[Budget, ...] = ()
    version: int = 1
    """Counts the key's changes."""

    def state(self, now: float) -> Literal["valid", "expired", "revoked"]:
        """At `now`, in unix seconds."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"


@dataclass(frozen=True, slots=True)
class TenantInfo:
    """A tenant and what all its keys share. Times are unix seconds."""

    name: str
    created_at: float
    note: str = ""
    suspended_at: float | None = None
    """Since when none of its keys is let in."""
    weight: float = 1.0
    priority: int = 0
    limits: Limits = Limits()
    budgets: tuple[Budget, ...] = ()
    keep_feedback_text: bool = False
    """Whether texts that its users send with feedback are kept."""
    version: int = 1
    """Counts the tenant's changes."""
