"""Keys and tenants as lines for people."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from serving.identity.amounts import format_dollars
from serving.identity.principal import Budget, KeyInfo, Limits, TenantInfo


def key_line(info: KeyInfo) -> str:
    """One key in one line."""
    state = info.state(time.time())
    shown = "admin" if state == "valid" and info.admin else state
    who = f"{info.id}  …{info.hint}  {shown:7}  {info.tenant}  {_moment(info.created_at)}"
    facts = [
        f"name {info.name}" if info.name else "",
        limits_text(info.limits),
        _budgets_text(info.budgets),
        f"models {' '.join(info.models)}" if info.models is not None else "",
        f"endpoints {' '.join(info.endpoints)}" if info.endpoints is not None else "",
        f"expires {_moment(info.expires_at)}" if info.expires_at is not None else "",
        f"mark {info.mark.default}{' (request may choose)' if info.mark.allowed else ''}",
        f"last used {_moment(info.last_used_at)}" if info.last_used_at is not None else "",
    ]
    return f"{who}  {'; '.join(fact for fact in facts if fact)}"


def tenant_line(info: TenantInfo) -> str:
    """One tenant in one line."""
    facts = [
        "suspended" if info.suspended_at is not None else "",
        f"weight {info.weight:g}, priority {info.priority}",
        limits_text(info.limits),
        _budgets_text(info.budgets),
        "keeps texts of feedback" if info.keep_feedback_text else "",
        info.note,
    ]
    return f"{info.name}  {_moment(info.created_at)}  {'; '.join(fact for fact in facts if fact)}"


def limits_text(limits: Limits) -> str:
    named = (
        (limits.requests_per_minute, "requests/min"),
        (limits.tokens_per_minute, "tokens/min"),
        (limits.concurrency, "at once"),
    )
    return ", ".join(f"{value} {unit}" for value, unit in named if value is not None) or "no limits"


def _budgets_text(budgets: tuple[Budget, ...]) -> str:
    return ", ".join(f"${format_dollars(budget.amount_nanos)} {_PERIODS[budget.period]}" for budget in budgets)


_PERIODS = {"day": "a day", "month": "a month", "total": "in total"}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
