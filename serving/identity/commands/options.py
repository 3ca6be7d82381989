"""Options that several commands take, and the types of their values."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar, get_args

import click

from serving.identity.amounts import parse_dollars
from serving.identity.errors import InvalidValue
from serving.identity.principal import ENDPOINTS, Budget, BudgetPeriod, BudgetScope, MarkDefault
from serving.identity.store import IdentityStore

Command = TypeVar("Command", bound=Callable[..., Any])

NOTHING = object()
"""What `none` and `never` mean: no limit, no end."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")


def duration(value: str | float) -> float:
    """`90s`, `15m`, `24h`, `30d`; as seconds."""
    match = _DURATION.fullmatch(str(value))
    if match is None:
        raise click.BadParameter(f"{value!r} is not a duration such as 15m, 24h or 30d")
    return float(match[1]) * _UNITS[match[2]]


def moment(value: str) -> Any:
    """A duration from now, a date or moment (UTC unless it says otherwise), or `never`; as unix seconds."""
    if value == "never":
        return NOTHING
    if _DURATION.fullmatch(value):
        return time.time() + duration(value)
    try:
        named = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is none of 30d, 2027-01-31, 2027-01-31T12:00Z, never") from None
    return (named if named.tzinfo else named.replace(tzinfo=UTC)).timestamp()


def limit(value: str) -> Any:
    """A whole number from 1, or `none`."""
    if value == "none":
        return NOTHING
    if not value.isascii() or not value.isdigit() or not 0 < len(value) < 12:
        raise click.BadParameter(f"{value!r} is no whole number, nor none")
    return int(value)


def spending(value: str) -> Any:
    """`PERIOD=DOLLARS`, or `PERIOD=none`; as the period and nano-dollars or None."""
    period, _, amount = value.partition("=")
    if period not in get_args(BudgetPeriod):
        raise click.BadParameter(f"{value!r} is not of the form day=5, month=100.50 or total=none")
    try:
        return period, None if amount == "none" else parse_dollars(amount)
    except InvalidValue as error:
        raise click.BadParameter(str(error)) from None


def limit_options(command: Command) -> Command:
    """Limits and budgets, of a key or a tenant."""
    options = (
        click.option("--requests-per-minute", type=limit, metavar="N|none", help="Default: no limit."),
        click.option("--tokens-per-minute", type=limit, metavar="N|none", help="Prompt and answer. Default: no limit."),
        click.option("--concurrency", type=limit, metavar="N|none", help="Requests open at once. Default: no limit."),
        click.option(
            "--budget",
            "budgets",
            type=spending,
            multiple=True,
            metavar="PERIOD=USD",
            help="Spend at most so many dollars a day, month (both UTC) or in total; USD may be none. Repeatable.",
        ),
    )
    return _apply(command, options)


def key_options(command: Command) -> Command:
    """What can be set of a key."""
    options = (
        click.option("--name", help="What people call it."),
        click.option("--note", help="One line for whoever reads the list later."),
        click.option("--admin/--no-admin", default=None, help="May use /admin.  [default: no-admin]"),
        click.option(
            "--model",
            "models",
            multiple=True,
            metavar="NAME",
            help="Only this model, alias or template; patterns such as 'llama-*' too. Repeatable. Default: all ('*').",
        ),
        click.option(
            "--endpoint",
            "endpoints",
            type=click.Choice([*ENDPOINTS, "all"]),
            multiple=True,
            help="Only this kind of request. Repeatable. Default: all.",
        ),
        click.option("--expires", "expires_at", type=moment, metavar="WHEN", help="30d, a date, or never (default)."),
        click.option(
            "--mark", type=click.Choice(get_args(MarkDefault)), help="Mark answers; on is gumbel.  [default: on]"
        ),
        click.option(
            "--may-choose-mark/--no-may-choose-mark",
            default=None,
            help="May a request choose by X-Signet-Mark.  [default: may-choose-mark]",
        ),
    )
    return _apply(limit_options(command), options)


def given(options: dict[str, Any]) -> Any:
    """The fields that the command line names, as the store takes them."""
    fields = {name: value for name, value in options.items() if value is not None and value != ()}
    if "all" in fields.get("endpoints", ()):
        fields["endpoints"] = NOTHING
    return {name: None if value is NOTHING else value for name, value in fields.items()}


def set_budgets(
    store: IdentityStore, scope: BudgetScope, owner: str, budgets: tuple[tuple[BudgetPeriod, int | None], ...]
) -> None:
    """Set or lift each."""
    for period, amount in budgets:
        if amount is None:
            store.remove_budget(scope, owner, period)
        else:
            store.set_budget(Budget(scope, owner, period, amount))


def budget_details(budgets: tuple[tuple[BudgetPeriod, int | None], ...]) -> dict[str, Any]:
    """Budgets as the audit chain shows them."""
    return {"budgets_nanos": dict(budgets)} if budgets else {}


def json_option(what: str) -> Callable[[Command], Command]:
    return click.option("--json", "as_json", is_flag=True, help=f"Print {what}.")


def _apply(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
