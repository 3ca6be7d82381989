"""Settings of the guard: what happens to each entity, and what a request may carry."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Action = Literal["mask", "allow"]


class EntityActions(BaseModel):
    """What happens to each entity in one direction."""

    model_config = ConfigDict(extra="forbid")

    email_address: Action = Field(default="mask", description="E-mail addresses: `mask` or `allow`.")
    phone_number: Action = Field(default="mask", description="Phone numbers: `mask` or `allow`.")
    card_number: Action = Field(default="mask", description="Payment card numbers (checksum holds): `mask` or `allow`.")
    api_key: Action = Field(default="mask", description="Vendors' API keys, JWTs and bearer tokens: `mask` or `allow`.")
    private_key: Action = Field(
        default="mask", description="Private keys in PEM, OpenSSH and PGP armour: `mask` or `allow`."
    )

    def masked(self) -> frozenset[str]:
        """The entities to mask, by the names that replace them: `EMAIL_ADDRESS` and so on."""
        return frozenset(name.upper() for name, action in self if action == "mask")


class GuardSettings(BaseModel):
    """What the guard does to requests and answers."""

    model_config = ConfigDict(extra="forbid")

    input: EntityActions = EntityActions()
    output: EntityActions = EntityActions()
    raw_prompts: Literal["inert", "allow"] = Field(
        default="inert",
        description="Control tokens in the `prompt`, `suffix` and `stop` of /v1/completions: `inert` breaks them, "
        "`allow` leaves them to callers who build their own chat format.",
    )
    token_prompts: Literal["refuse", "allow"] = Field(
        default="refuse",
        description="Prompts given as token ids, which nothing can be cleaned in: `refuse` or `allow`.",
    )
    control_tokens: list[str] = Field(
        default_factory=list,
        description="Control tokens to break besides those of the served models and of the known families.",
    )
    roles: list[str] = Field(
        default_factory=lambda: ["system", "developer", "user", "assistant", "tool", "function"],
        description="Message roles that are let through; others are refused.",
    )
    max_depth: int = Field(default=64, ge=8, le=256, description="Deepest nesting of a request body.")
    max_values: int = Field(default=200_000, ge=100, description="Most values (fields, items) in a request body.")
    max_text_chars: int = Field(
        default=1_000_000, ge=1000, description="Most characters of text in a request, media left out."
    )
