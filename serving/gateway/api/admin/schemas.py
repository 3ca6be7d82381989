"""The JSON of the admin API, and its translation from and to identity's values."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from serving.identity import Budget, KeyInfo, TenantInfo
from serving.identity.amounts import format_dollars
from serving.identity.principal import BudgetPeriod, MarkDefault

MAX_PAGE = 500
Name = Annotated[str, StringConstraints(max_length=255)]
# Of what is looked up, so that nothing reaches a database that it cannot hold, such as NUL.
Plain = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,255}$")]


class Fields(BaseModel):
    """What is not named stays; an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    def given(self) -> dict[str, Any]:
        """What the request names, as identity takes it: moments as unix seconds."""
        fields = self.model_dump(exclude_unset=True)
        return {name: value.timestamp() if isinstance(value, datetime) else value for name, value in fields.items()}


class LimitFields(Fields):
    """null lifts a limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Prompt and answer together."""
    concurrency: int | None = None
    """Requests open at once."""


class KeyFields(LimitFields):
    """What can be set of a key."""

    name: str = Field(default="", max_length=100)
    note: str = Field(default="", max_length=1000)
    admin: bool = False
    """May use /admin; an administrator is one for all tenants."""
    models: list[Name] | None = Field(default=None, max_length=200)
    """Models, aliases and templates, patterns as `llama-*` too; null: all."""
    endpoints: list[Name] | None = Field(default=None, max_length=20)
    """`chat`, `completions`, `embeddings`, `responses`, `messages`, `tokenize`, `detect`; null: all."""
    expires_at: AwareDatetime | None = None
    """null: never."""
    mark: MarkDefault = "on"
    may_choose_mark: bool = True


class NewKeyRequest(KeyFields):
    """A key to make; its tenant is made when new."""

    tenant: Plain


class RotateRequest(Fields):
    """How to replace a key's secret."""

    grace_s: float = Field(default=0.0, ge=0)
    """Seconds for which the old secret stays valid; 0 ends it, and those in grace, at once."""


class TenantFields(LimitFields):
    """What can be set of a tenant; its limits count for all its keys together."""

    note: str = Field(default="", max_length=1000)
    suspended: bool = False
    """None of its keys is let in."""
    weight: float = 1.0
    """Its share in fair queueing, relative to other tenants'."""
    priority: int = 0
    """The highest that a request may ask for; larger is more urgent."""
    keep_feedback_text: bool = False
    """Keep reasons, corrections and conversations that its users send with feedback; otherwise only ratings."""


class NewTenantRequest(TenantFields):
    """A tenant to make."""

    name: Plain


class BudgetRequest(Fields):
    """What may be spent."""

    amount_usd: Decimal = Field(ge=0, max_digits=18, decimal_places=9)
    """Dollars, best as a string: `"12.50"`."""


class NewKeyView(BaseModel):
    """A key at the only moment it is known in full."""

    id: str
    key: str
    tenant: str


class KeyView(BaseModel):
    """A key, without its secret."""

    id: str
    tenant: str
    name: str
    note: str
    state: Literal["valid", "expired", "revoked"]
    admin: bool
    hint: str = Field(description="The secret's last four characters.")
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrency: int | None
    models: list[str] | None
    endpoints: list[str] | None
    mark: MarkDefault
    may_choose_mark: bool
    budgets_usd: dict[BudgetPeriod, str]
    created_at: datetime
    expires_at: datetime | None
    rotated_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="As of a minute ago or so.")
    version: int = Field(description="Counts the key's changes; its ETag.")


class TenantView(BaseModel):
    """A tenant and what all its keys share."""

    name: str
    note: str
    suspended_at: datetime | None
    weight: float
    priority: int
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrency: int | None
    budgets_usd: dict[BudgetPeriod, str]
    keep_feedback_text: bool
    created_at: datetime
    version: int = Field(description="Counts the tenant's changes; its ETag.")


class EngineView(BaseModel):
    """An engine as this process of this gateway sees it."""

    name: str
    url: str
    up: bool
    draining: bool
    drained_by_admin: bool
    circuit: str
    in_flight: int = Field(description="Answers of this process.")
    load: int = Field(description="Answers that the engine works on or has waiting.")
    kv_usage: float
    limit: int | None
    models: list[str]
    can_mark: bool


class AdapterWanted(Fields):
    """Which version is to be served."""

    version: int | None = Field(default=None, ge=1, description="Default: its `production` one, or its newest.")


class AdapterProgress(BaseModel):
    """How far one engine is with an adapter."""

    engine: str
    state: Literal["loaded", "loading", "refused", "down"]
    reason: str = Field(description="Why the engine refused it; it is asked again every half a minute.")


class AdapterView(BaseModel):
    """A LoRA adapter that engines serve beside its base, under its own name."""

    name: str = Field(description="What clients write as `model`.")
    version: int
    digest: str = Field(description="Of its files; receipts name it.")
    base: str = Field(description="Digest of the checkpoint that it was trained on.")
    engines: list[AdapterProgress] = Field(description="Every engine that serves its base.")


class AdapterList(BaseModel):
    """All live adapters."""

    data: list[AdapterView]


class KeyPage(BaseModel):
    """Keys, oldest first."""

    data: list[KeyView]
    next: str | None = Field(description="Give it as `after` for the next page; null: this is the last.")


class TenantPage(BaseModel):
    """Tenants by name."""

    data: list[TenantView]
    next: str | None = Field(description="Give it as `after` for the next page; null: this is the last.")


class EngineList(BaseModel):
    """All engines."""

    data: list[EngineView]


def key_view(info: KeyInfo) -> KeyView:
    return KeyView(
        id=info.id,
        tenant=info.tenant,
        name=info.name,
        note=info.note,
        state=info.state(datetime.now(UTC).timestamp()),
        admin=info.admin,
        hint=info.hint,
        requests_per_minute=info.limits.requests_per_minute,
        tokens_per_minute=info.limits.tokens_per_minute,
        concurrency=info.limits.concurrency,
        models=None if info.models is None else list(info.models),
        endpoints=None if info.endpoints is None else list(info.endpoints),
        mark=info.mark.default,
        may_choose_mark=info.mark.allowed,
        budgets_usd=_budgets(info.budgets),
        created_at=_moment(info.created_at),
        expires_at=_maybe_moment(info.expires_at),
        rotated_at=_maybe_moment(info.rotated_at),
        revoked_at=_maybe_moment(info.revoked_at),
        last_used_at=_maybe_moment(info.last_used_at),
        version=info.version,
    )


def tenant_view(info: TenantInfo) -> TenantView:
    return TenantView(
        name=info.name,
        note=info.note,
        suspended_at=_maybe_moment(info.suspended_at),
        weight=info.weight,
        priority=info.priority,
        requests_per_minute=info.limits.requests_per_minute,
        tokens_per_minute=info.limits.tokens_per_minute,
        concurrency=info.limits.concurrency,
        budgets_usd=_budgets(info.budgets),
        keep_feedback_text=info.keep_feedback_text,
        created_at=_moment(info.created_at),
        version=info.version,
    )


def _budgets(budgets: tuple[Budget, ...]) -> dict[BudgetPeriod, str]:
    return {budget.period: format_dollars(budget.amount_nanos) for budget in budgets}


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _maybe_moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else _moment(seconds)
