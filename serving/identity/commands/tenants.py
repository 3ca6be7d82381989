"""`signet keys tenants create|list|show|update`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from serving.identity.commands.options import Command, budget_details, given, json_option, limit_options, set_budgets
from serving.identity.commands.session import LoadSettings, open_session
from serving.identity.commands.show import tenant_line
from serving.identity.principal import TenantInfo


@click.group()
def tenants() -> None:
    """Manage tenants: what all keys of one share.

    Example: signet keys tenants update acme --weight 2
    """


def _tenant_options(command: Command) -> Command:
    options: tuple[Callable[[Command], Command], ...] = (
        click.option("--note", help="One line for whoever reads the list later."),
        click.option("--weight", type=float, help="Share in fair queueing, relative to others'.  [default: 1]"),
        click.option("--priority", type=int, help="Highest that a request may ask for.  [default: 0]"),
        click.option(
            "--keep-feedback-text/--drop-feedback-text",
            "keep_feedback_text",
            default=None,
            help="Keep texts that its users send with feedback, or only ratings.  [default: only ratings]",
        ),
    )
    command = limit_options(command)
    for option in reversed(options):
        command = option(command)
    return command


@tenants.command()
@click.argument("name")
@_tenant_options
@json_option("a JSON object")
@click.pass_obj
def create(load_settings: LoadSettings, /, name: str, budgets: tuple[Any, ...], as_json: bool, **options: Any) -> None:
    """Create a tenant. (A tenant's first key creates it too.)

    Example: signet keys tenants create acme --weight 2 --budget month=500
    """
    fields = given(options)
    with open_session(load_settings) as session:
        session.change(
            "tenant.create",
            name,
            {**fields, **budget_details(budgets)},
            lambda: session.store.create_tenant(name, **fields),
        )
        set_budgets(session.store, "tenant", name, budgets)
        _show(session.store.tenant(name), as_json)


@tenants.command(name="list")
@json_option("a JSON array")
@click.pass_obj
def list_command(load_settings: LoadSettings, as_json: bool) -> None:
    """List all tenants.

    Example: signet keys tenants list
    """
    with open_session(load_settings) as session:
        infos = session.store.list_tenants()
    if as_json:
        click.echo(json.dumps([asdict(info) for info in infos], indent=2))
        return
    if not infos:
        click.echo("no tenants yet: signet keys create --tenant NAME")
    for info in infos:
        click.echo(tenant_line(info))


@tenants.command()
@click.argument("name")
@json_option("a JSON object")
@click.pass_obj
def show(load_settings: LoadSettings, /, name: str, as_json: bool) -> None:
    """Show one tenant.

    Example: signet keys tenants show acme
    """
    with open_session(load_settings) as session:
        _show(session.store.tenant(name), as_json)


@tenants.command()
@click.argument("name")
@_tenant_options
@click.option("--suspend/--resume", "suspended", default=None, help="Let none of its keys in, or let them in again.")
@json_option("a JSON object")
@click.pass_obj
def update(load_settings: LoadSettings, /, name: str, budgets: tuple[Any, ...], as_json: bool, **options: Any) -> None:
    """Change what the options name of a tenant, and leave the rest. Limits count for all its keys together.

    Example: signet keys tenants update acme --tokens-per-minute 200000 --budget month=none
    """
    fields = given(options)
    if not fields and not budgets:
        raise click.UsageError("nothing to change was named")

    with open_session(load_settings) as session:

        def change() -> TenantInfo:
            if fields:
                session.store.update_tenant(name, **fields)
            set_budgets(session.store, "tenant", name, budgets)
            return session.store.tenant(name)

        _show(session.change("tenant.update", name, {**fields, **budget_details(budgets)}, change), as_json)


def _show(info: TenantInfo, as_json: bool) -> None:
    click.echo(json.dumps(asdict(info), indent=2) if as_json else tenant_line(info))
