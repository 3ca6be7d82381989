"""Who is asking, and what its key may do: values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MarkDefault = Literal["on", "off"]


class IdentityError(Exception):
    """A tenant or key cannot be created, found or revoked; `str()` is one line for the user."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one key may use; None is unlimited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Prompt and completion together."""
    concurrency: int | None = None
    """Requests open at once."""


@dataclass(frozen=True, slots=True)
class MarkPolicy:
    """Whether answers are marked."""

    default: MarkDefault = "on"
    allowed: bool = True
    """May the request choose by `X-Signet-Mark`."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a valid key."""

    key_id: str
    tenant: str
    admin: bool = False
    limits: Limits = Limits()
    mark: MarkPolicy = MarkPolicy()


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
