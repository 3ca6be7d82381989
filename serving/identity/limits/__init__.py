"""Limits and budgets: may a request start, and what did it use.

`Limiter` is the door; behind it one arithmetic (`accounts`) on numbers kept in this process (`memory`), in a file that
worker processes share (`shared`), or in Redis (`redis_store`), with the embedded store going on when Redis is gone.
"""

from serving.identity.limits.lease import Lease, Refusal
from serving.identity.limits.limiter import Limiter
from serving.identity.limits.plan import Amount
from serving.identity.limits.spending import SpendingUnknown

__all__ = ["Amount", "Lease", "Limiter", "Refusal", "SpendingUnknown"]
