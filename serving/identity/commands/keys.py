"""`signet keys create|list|show|update|rotate|revoke`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from serving.identity.commands.options import budget_details, duration, given, json_option, key_options, set_budgets
from serving.identity.commands.session import LoadSettings, Session, open_session
from serving.identity.commands.show import key_line
from serving.identity.commands.tenants import tenants
from serving.identity.principal import KeyInfo, NewKey
from serving.identity.store import new_key_id


@click.group()
def keys() -> None:
    """Manage API keys and tenants. A running gateway follows before a command returns.

    Example: signet keys create --tenant acme --requests-per-minute 60
    """


keys.add_command(tenants)


@keys.command()
@click.option("--tenant", required=True, help="Who is billed; made when new.")
@key_options
@json_option('{"id", "key", "tenant"}')
@click.pass_obj
def create(
    load_settings: LoadSettings, /, tenant: str, budgets: tuple[Any, ...], as_json: bool, **options: Any
) -> None:
    """Create a key. It is shown once, now; only its digest is kept.

    Example: signet keys create --tenant acme --model 'llama-*' --expires 90d --budget month=100 --json
    """
    fields = given(options)
    with open_session(load_settings) as session:
        key_id = new_key_id()
        new = session.change(
            "key.create",
            key_id,
            {"tenant": tenant, **fields, **budget_details(budgets)},
            lambda: session.store.create_key(tenant, key_id=key_id, **fields),
        )
        set_budgets(session.store, "key", new.id, budgets)
    _show_new(new, as_json)


@keys.command(name="list")
@click.option("--tenant", help="Only this tenant's keys.")
@json_option("a JSON array")
@click.pass_obj
def list_command(load_settings: LoadSettings, /, tenant: str | None, as_json: bool) -> None:
    """List all keys, revoked ones too.

    Example: signet keys list --tenant acme
    """
    with open_session(load_settings) as session:
        infos = session.store.list_keys(tenant)
    if as_json:
        click.echo(json.dumps([asdict(info) for info in infos], indent=2))
        return
    if not infos:
        click.echo("no keys yet: signet keys create --tenant NAME")
    for info in infos:
        click.echo(key_line(info))


@keys.command()
@click.argument("key_id", metavar="ID")
@json_option("a JSON object")
@click.pass_obj
def show(load_settings: LoadSettings, /, key_id: str, as_json: bool) -> None:
    """Show one key, without its secret.

    Example: signet keys show key_0123456789abcdef
    """
    with open_session(load_settings) as session:
        info = session.store.key(key_id)
    _show(info, as_json)


@keys.command()
@click.argument("key_id", metavar="ID")
@key_options
@json_option("a JSON object")
@click.pass_obj
def update(
    load_settings: LoadSettings, /, key_id: str, budgets: tuple[Any, ...], as_json: bool, **options: Any
) -> None:
    """Change what the options name of a key, and leave the rest.

    Example: signet keys update key_0123456789abcdef --concurrency 8 --expires never --budget day=5
    """
    fields = given(options)
    if not fields and not budgets:
        raise click.UsageError("nothing to change was named")

    def change(session: Session) -> KeyInfo:
        if fields:
            session.store.update_key(key_id, **fields)
        set_budgets(session.store, "key", key_id, budgets)
        return session.store.key(key_id)

    with open_session(load_settings) as session:
        info = session.change("key.update", key_id, {**fields, **budget_details(budgets)}, lambda: change(session))
    _show(info, as_json)


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option(
    "--grace",
    "grace_s",
    type=duration,
    default="0s",
    show_default=True,
    metavar="DURATION",
    help="How long the old secret stays valid: 15m, 24h, 7d. 0s ends it at once.",
)
@json_option('{"id", "key", "tenant"}')
@click.pass_obj
def rotate(load_settings: LoadSettings, /, key_id: str, grace_s: float, as_json: bool) -> None:
    """Give a key a new secret, under the same id. It is shown once, now.

    Example: signet keys rotate key_0123456789abcdef --grace 24h
    """
    with open_session(load_settings) as session:
        new = session.change(
            "key.rotate", key_id, {"grace_s": grace_s}, lambda: session.store.rotate_key(key_id, grace_s)
        )
    _show_new(new, as_json)


@keys.command()
@click.argument("key_id", metavar="ID")
@json_option("a JSON object")
@click.pass_obj
def revoke(load_settings: LoadSettings, /, key_id: str, as_json: bool) -> None:
    """End a key: requests with it are refused when the command returns.

    Example: signet keys revoke key_0123456789abcdef
    """
    with open_session(load_settings) as session:
        session.change("key.revoke", key_id, {}, lambda: session.store.revoke(key_id))
        info = session.store.key(key_id)
    click.echo(json.dumps(asdict(info), indent=2) if as_json else f"revoked {key_id}")


def _show(info: KeyInfo, as_json: bool) -> None:
    click.echo(json.dumps(asdict(info), indent=2) if as_json else key_line(info))


def _show_new(new: NewKey, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(new)))
        return
    click.echo(new.key)
    click.echo(f"{new.id} of tenant {new.tenant}. Keep the key now: it cannot be shown again.", err=True)
