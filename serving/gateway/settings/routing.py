"""Settings of routing: the weights of the score, and what models are called."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class RoutingSettings(BaseModel):
    """How load, sessions and cached prompts weigh against each other."""

    model_config = ConfigDict(extra="forbid")

    load_chars: int = Field(
        default=512,
        ge=1,
        description="An answer in flight weighs as much as so many characters of prompt that must be read again.",
    )
    session_chars: int = Field(
        default=16384, ge=0, description="Weight of a session's own engine, in the same unit; 0: sessions are not kept."
    )
    prefix: bool = Field(default=True, description="Whether prompts go where their beginning was read before.")
    balance: float = Field(
        default=1.5, ge=1, description="An engine above so many times the mean load is chosen for its load alone."
    )


class CanarySettings(BaseModel):
    """A share of a model's requests is answered by another model."""

    model_config = ConfigDict(extra="forbid")

    target: str = Field(min_length=1, description="The model that answers them.")
    share: float = Field(gt=0, le=1, description="Share of the requests.")
    sticky: Literal["session", "tenant", "none"] = Field(
        default="session", description="What stays on one side: a session that names itself, a tenant, or nothing."
    )


class ShadowSettings(BaseModel):
    """A share of a model's requests is also sent to another model, whose answers are compared and thrown away."""

    model_config = ConfigDict(extra="forbid")

    target: str = Field(min_length=1, description="The model that is asked too.")
    share: float = Field(gt=0, le=1, description="Share of the requests.")
    max_concurrent: int = Field(default=4, ge=1, description="Copies under way at the most; others are left out.")
    timeout_s: float = Field(default=120.0, gt=0, description="Seconds after which a copy is given up.")


class ModelSettings(BaseModel):
    """What is meant by one model name that clients use; given as text, it is the target."""

    model_config = ConfigDict(extra="forbid")

    target: str | None = Field(default=None, description="The served model that answers; default: that of this name.")
    engines: list[str] = Field(
        default_factory=list, description="Names of the engines that answer, with * and ?; default: all that have it."
    )
    canary: CanarySettings | None = Field(default=None, description="Another model for a share of the requests.")
    shadow: ShadowSettings | None = Field(default=None, description="Another model that is asked too, to compare.")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"target": value} if isinstance(value, str) else value
