"""What every embedded store can do."""

from __future__ import annotations

from typing import Protocol

from serving.identity.limits.lease import Lease, Refusal
from serving.identity.limits.plan import Amount, Plan


class EmbeddedStore(Protocol):
    """The accounts of one gateway."""

    def open(self) -> None:
        """Take hold of the accounts. Called once, in the process that uses them."""

    def close(self) -> None:
        """Let go of them."""

    def reclaim(self) -> bool:
        """Take back what processes held that are gone; whether there were any. Called every second."""

    def acquire(self, plan: Plan, amount: Amount) -> Lease | Refusal | None:
        """Start a request or say why not, using up nothing; None: a budget must be compared first."""

    def book(self, lease: Lease) -> None:
        """Count a request that was granted elsewhere."""

    def settle(self, lease: Lease, tokens: int, nanos: int) -> None:
        """End a request. Called by its lease, once."""

    def compare(self, account: str, window: int, in_ledger: int, quiet_s: float) -> None:
        """Take over what the ledger says was spent of a budget in `window`."""

    def open_requests(self, account: str) -> int:
        """Leases on `key:ID` or `tenant:NAME` that are neither settled nor released."""

    def budget(self, account: str) -> tuple[int, int]:
        """Spent and reserved of `budget:SCOPE:OWNER:PERIOD`, nano-dollars."""
