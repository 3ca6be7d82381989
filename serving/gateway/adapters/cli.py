"""`signet adapters`: LoRA adapters served beside their base, loaded and unloaded while engines run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from serving.identity import LiveAdapter
from serving.identity.commands.session import open_session
from training.registry import RegistryError


@click.group()
def adapters() -> None:
    """Serve LoRA adapters of the registry beside their base, without a restart.

    Example: signet adapters load support-desk@2
    """


@adapters.command()
@click.argument("ref")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.pass_obj
def load(load_settings: Callable[..., Any], ref: str, as_json: bool) -> None:
    """Verify an adapter and have every engine of its base serve it, as NAME, in place of another version.

    Running gateways see it about a second later.

    Example: signet adapters load support-desk@2
    """
    from serving.gateway.adapters.find import find_live_adapter

    home = load_settings().home
    with _one_line_errors():
        adapter = find_live_adapter(home, ref)
    with open_session(load_settings) as session:
        details = {"version": adapter.version, "digest": adapter.digest}
        loaded = session.change("adapter.load", adapter.name, details, lambda: session.store.load_adapter(adapter))
    click.echo(json.dumps(asdict(loaded)) if as_json else f"{loaded.served_name} is to be served as {loaded.name}")


@adapters.command()
@click.argument("name")
@click.pass_obj
def unload(load_settings: Callable[..., Any], name: str) -> None:
    """Have no engine serve an adapter any more. Answers under way finish.

    Example: signet adapters unload support-desk
    """
    with open_session(load_settings) as session:
        session.change("adapter.unload", name, {}, lambda: session.store.unload_adapter(name))
    click.echo(f"{name} is served no longer")


@adapters.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.pass_obj
def list_command(load_settings: Callable[..., Any], as_json: bool) -> None:
    """List what is to be served. GET /admin/adapters of a gateway says how far each engine is.

    Example: signet adapters list
    """
    with open_session(load_settings) as session:
        adapters = session.store.list_adapters()
    if as_json:
        click.echo(json.dumps([asdict(adapter) for adapter in adapters]))
        return
    if not adapters:
        click.echo("no live adapters yet: signet adapters load NAME@VERSION")
    for adapter in adapters:
        click.echo(_line(adapter))


def _line(adapter: LiveAdapter) -> str:
    since = datetime.fromtimestamp(adapter.since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{adapter.name}  version {adapter.version}  since {since}  {adapter.digest}"


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except RegistryError as error:
        raise click.ClickException(str(error)) from None
