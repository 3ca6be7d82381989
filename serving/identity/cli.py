"""`signet keys`: create, list and revoke API keys. A running gateway follows within about a second."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import click

from serving.identity.errors import IdentityError
from serving.identity.identity import Identity
from serving.identity.principal import KeyInfo, Limits, MarkDefault
from serving.ledger.database import DatabaseError, DatabaseSettings


class _Settings(Protocol):
    """What this command reads of the settings tree."""

    @property
    def home(self) -> Path: ...
    @property
    def database(self) -> DatabaseSettings: ...


@contextmanager
def _open_identity(load_settings: Callable[[], _Settings]) -> Iterator[Identity]:
    """The identity of the configured database; its errors end the command in one line."""
    settings = load_settings()
    try:
        identity = Identity(settings.database.resolve(settings.home))
        try:
            yield identity
        finally:
            identity.close()
    except (IdentityError, DatabaseError) as error:
        raise click.ClickException(str(error)) from error


@click.group()
def keys() -> None:
    """Create, list and revoke API keys.

    Example: signet keys create --tenant acme --requests-per-minute 60
    """


@keys.command()
@click.option("--tenant", required=True, help="Who is billed; made when new.")
@click.option("--admin", is_flag=True, help="May use /admin.")
@click.option("--requests-per-minute", type=click.IntRange(min=1), help="Default: no limit.")
@click.option("--tokens-per-minute", type=click.IntRange(min=1), help="Prompt and answer. Default: no limit.")
@click.option("--concurrency", type=click.IntRange(min=1), help="Requests open at once. Default: no limit.")
@click.option("--mark", type=click.Choice(["on", "off"]), default="on", show_default=True, help="Mark answers.")
@click.option(
    "--may-choose-mark/--no-may-choose-mark",
    default=True,
    show_default=True,
    help="May a request choose by X-Signet-Mark.",
)
@click.option("--json", "as_json", is_flag=True, help='Print {"id", "key", "tenant"}.')
@click.pass_obj
def create(
    load_settings: Callable[[], _Settings],
    tenant: str,
    admin: bool,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    concurrency: int | None,
    mark: MarkDefault,
    may_choose_mark: bool,
    as_json: bool,
) -> None:
    """Create a key. It is shown once, now; only its digest is kept.

    Example: signet keys create --tenant acme --json
    """
    limits = Limits(requests_per_minute, tokens_per_minute, concurrency)
    with _open_identity(load_settings) as identity:
        new = identity.create_key(tenant, admin=admin, limits=limits, mark=mark, may_choose_mark=may_choose_mark)
    if as_json:
        click.echo(json.dumps(asdict(new)))
        return
    click.echo(new.key)
    click.echo(f"{new.id} of tenant {new.tenant}. Keep the key now: it cannot be shown again.", err=True)


@keys.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.pass_obj
def list_command(load_settings: Callable[[], _Settings], as_json: bool) -> None:
    """List all keys, revoked ones too.

    Example: signet keys list
    """
    with _open_identity(load_settings) as identity:
        found = identity.list_keys()
    if as_json:
        click.echo(json.dumps([asdict(info) for info in found], indent=2))
        return
    if not found:
        click.echo("no keys yet: signet keys create --tenant NAME")
    for info in found:
        click.echo(_describe(info))


def _describe(info: KeyInfo) -> str:
    created = datetime.fromtimestamp(info.created_at, UTC).strftime("%Y-%m-%d %H:%M")
    state = "revoked" if info.revoked_at else "admin" if info.admin else "valid"
    limited = [
        f"{value} {unit}"
        for value, unit in (
            (info.limits.requests_per_minute, "requests/min"),
            (info.limits.tokens_per_minute, "tokens/min"),
            (info.limits.concurrency, "at once"),
        )
        if value is not None
    ]
    choice = " (request may choose)" if info.mark.allowed else ""
    limits = ", ".join(limited) or "no limits"
    who = f"{info.id}  …{info.hint}  {state:7}  {info.tenant}  {created}"
    return f"{who}  {limits}; mark {info.mark.default}{choice}"


@keys.command()
@click.argument("key_id", metavar="ID")
@click.pass_obj
def revoke(load_settings: Callable[[], _Settings], key_id: str) -> None:
    """End a key: requests with it are refused within about a second.

    Example: signet keys revoke key_0123456789abcdef
    """
    with _open_identity(load_settings) as identity:
        identity.revoke(key_id)
    click.echo(f"revoked {key_id}")
