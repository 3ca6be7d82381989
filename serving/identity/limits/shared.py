"""Limits of a gateway with several worker processes: the same arithmetic on accounts in a file that all of them map.

Every number that can leak is kept by process: open requests and reserved money stand in the column of the worker that
holds them, so that what a killed worker held is taken back exactly (`reclaim`). Under the lock each step writes what
was spent before it gives back what was reserved: a worker that is killed in between leaves too much reserved, never
too little, and its column goes anyway.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from serving.identity.limits.accounts import (
    BudgetAccount,
    RateAccount,
    book,
    decide,
    settle_budget,
    settle_rate,
    usages,
)
from serving.identity.limits.lease import Lease, Refusal
from serving.identity.limits.memory import FORGET_AFTER_S
from serving.identity.limits.periods import Calendar
from serving.identity.limits.plan import Amount, Plan
from serving.identity.limits.table import FIRST_COLUMN, Table

log = logging.getLogger(__name__)


class SharedStore:
    """The accounts of all processes that open the same `file`. Open it in the worker, after the fork.

    `clock` is the machine's monotonic clock, which all its processes share.
    """

    def __init__(
        self, file: Path, clock: Callable[[], float] = time.monotonic, calendar: Calendar | None = None
    ) -> None:
        self._file = file
        self._clock = clock
        self._calendar = calendar or Calendar()
        self._opened: Table | None = None

    def open(self) -> None:
        """Map the file and claim a column.

        Raises:
            TableError: the file cannot be used.
        """
        self._opened = Table(self._file, FORGET_AFTER_S, self._clock)

    def close(self) -> None:
        """Leave the file to the others."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def reclaim(self) -> bool:
        """Take back what killed workers held; whether there were any."""
        num_gone = self._table.take_back()
        if num_gone:
            log.warning("took back the limits that a killed worker held", extra={"count": num_gone})
        return num_gone > 0

    @property
    def _table(self) -> Table:
        assert self._opened is not None, "open() comes first"
        return self._opened

    def acquire(self, plan: Plan, amount: Amount) -> Lease | Refusal | None:
        """As `MemoryStore.acquire`."""
        table, now = self._table, self._clock()
        windows = [self._calendar.window(budget.period) for _, budget in plan.budgets]
        table.lock()
        try:
            rate_slots = [table.slot(scope.account) for scope in plan.rates]
            rates = [_load_rate(table, slot) for slot in rate_slots]
            budget_slots = [table.slot(account) for account, _ in plan.budgets]
            budgets = [_load_budget(table, slot) for slot in budget_slots]
            if not all(account.seeded for account in budgets):
                return None
            granted = decide(plan, rates, budgets, windows, amount, now)
            if isinstance(granted, Refusal):
                return granted
            book(rates, budgets, amount.tokens, granted, amount.sequences)
            own = FIRST_COLUMN + table.column
            for slot, rate in zip(rate_slots, rates, strict=True):
                table.words[slot + own] += amount.sequences
                _store_rate(table, slot, rate)
            for slot, account in zip(budget_slots, budgets, strict=True):
                table.words[slot + own] += granted
                _store_budget(table, slot, account)
        finally:
            table.unlock()
        return Lease(self, plan, amount.tokens, granted, windows, usages(plan, rates), sequences=amount.sequences)

    def book(self, lease: Lease) -> None:
        """As `MemoryStore.book`."""
        table, now = self._table, self._clock()
        own = FIRST_COLUMN + table.column
        table.lock()
        try:
            for scope in lease.plan.rates:
                slot = table.slot(scope.account)
                rate = _load_rate(table, slot)
                rate.fade(scope.limits, now)
                book([rate], (), lease.tokens, 0, lease.sequences)
                table.words[slot + own] += lease.sequences
                _store_rate(table, slot, rate)
            for name, _ in lease.plan.budgets:
                table.words[table.slot(name) + own] += lease.granted
        finally:
            table.unlock()

    def settle(self, lease: Lease, tokens: int, nanos: int) -> None:
        """As `MemoryStore.settle`."""
        if self._opened is None:  # the gateway has stopped: what this process held goes with its column
            return
        table, now = self._table, self._clock()
        own = FIRST_COLUMN + table.column
        table.lock()
        try:
            for scope in lease.plan.rates:
                slot = table.slot(scope.account)
                rate = _load_rate(table, slot)
                settle_rate(rate, scope.limits, tokens - lease.tokens, lease.sequences, now)
                _store_rate(table, slot, rate)
                _give_back(table, slot + own, lease.sequences)
            for (name, _), window in zip(lease.plan.budgets, lease.windows, strict=True):
                slot = table.slot(name)
                account = _load_budget(table, slot)
                settle_budget(account, window, lease.granted, nanos, now)
                table.floats[slot + 2] = now
                _store_budget(table, slot, account)
                _give_back(table, slot + own, lease.granted)
        finally:
            table.unlock()

    def compare(self, account: str, window: int, in_ledger: int, quiet_s: float) -> None:
        """As `MemoryStore.compare`."""
        table = self._table
        table.lock()
        try:
            slot = table.slot(account)
            budget = _load_budget(table, slot)
            budget.compare(window, in_ledger, self._clock(), quiet_s)
            _store_budget(table, slot, budget)
        finally:
            table.unlock()

    def open_requests(self, account: str) -> int:
        """As `MemoryStore.open_requests`, of all processes."""
        return self._table.held(self._table.slot(account))

    def budget(self, account: str) -> tuple[int, int]:
        """As `MemoryStore.budget`."""
        budget = _load_budget(self._table, self._table.slot(account))
        return budget.spent, budget.reserved


def _load_rate(table: Table, slot: int) -> RateAccount:
    floats = table.floats
    rate = RateAccount(floats[slot + 2])
    rate.requests = floats[slot + 3]
    rate.tokens = floats[slot + 4]
    rate.open = table.held(slot)
    return rate


def _store_rate(table: Table, slot: int, rate: RateAccount) -> None:
    floats = table.floats
    floats[slot + 2] = rate.updated
    floats[slot + 3] = rate.requests
    floats[slot + 4] = rate.tokens


def _load_budget(table: Table, slot: int) -> BudgetAccount:
    words = table.words
    account = BudgetAccount(table.floats[slot + 2])
    account.window = words[slot + 3]
    account.spent = words[slot + 4]
    account.seeded = words[slot + 5] != 0
    account.reserved = table.held(slot)
    return account


def _store_budget(table: Table, slot: int, account: BudgetAccount) -> None:
    words = table.words
    words[slot + 3] = account.window
    words[slot + 4] = account.spent
    words[slot + 5] = account.seeded


def _give_back(table: Table, word: int, held: int) -> None:
    table.words[word] = max(0, table.words[word] - held)
