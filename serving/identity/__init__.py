"""Tenants, API keys and their limits.

In comes the key a client presents; out goes a `Principal`, the tenant and what its key may do, or nothing;
and from `Limiter` a `Lease` to use the engine or a `Refusal`. The command line writes keys, a running gateway
sees them about a second later.
"""

from serving.identity.adapter import LiveAdapter
from serving.identity.errors import AlreadyExists, IdentityError, InvalidValue, NotFound, Rejected, VersionConflict
from serving.identity.first_key import ensure_first_key
from serving.identity.identity import Identity
from serving.identity.limits import Amount, Lease, Limiter, Refusal, SpendingUnknown
from serving.identity.principal import Budget, KeyInfo, Limits, MarkPolicy, NewKey, Principal, TenantInfo
from serving.identity.settings import IdentitySettings

__all__ = [
    "AlreadyExists",
    "Amount",
    "Budget",
    "Identity",
    "IdentityError",
    "IdentitySettings",
    "InvalidValue",
    "KeyInfo",
    "Lease",
    "Limiter",
    "Limits",
    "LiveAdapter",
    "MarkPolicy",
    "NewKey",
    "NotFound",
    "Principal",
    "Refusal",
    "Rejected",
    "SpendingUnknown",
    "TenantInfo",
    "VersionConflict",
    "ensure_first_key",
]
