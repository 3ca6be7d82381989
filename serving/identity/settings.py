"""Settings of identity."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class IdentitySettings(BaseModel):
    """How a running gateway follows changes to tenants and keys."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    poll_interval_s: float = Field(default=1.0, gt=0)
    """A key created, or revoked, elsewhere takes effect within about this time."""
