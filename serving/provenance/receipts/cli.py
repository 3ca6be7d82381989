"""`signet receipts`: the keys that sign."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import click

from serving.provenance.receipts.keys import ReceiptKey, ReceiptKeys, ReceiptKeysError


class _Settings(Protocol):
    """What these commands read of the settings tree."""

    @property
    def receipt_keys_file(self) -> Path: ...


LoadSettings = Callable[[], _Settings]


@click.group()
def receipts() -> None:
    """Manage the keys that sign receipts.

    Example: signet receipts rotate
    """


@receipts.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_keys(load_settings: LoadSettings, as_json: bool) -> None:
    """List the keys, the one that signs last; no secrets.

    Example: signet receipts list --json
    """
    keys = _open(load_settings()).all()
    if as_json:
        click.echo(json.dumps([_described(key) for key in keys]))
        return
    for key in keys:
        state = "signs" if key.retired_at is None else f"retired {_moment(key.retired_at)}"
        click.echo(f"{key.kid}  made {_moment(key.created_at)}  {state}")


@receipts.command("keys")
@click.pass_obj
def show_keys(load_settings: LoadSettings) -> None:
    """Print the public keys as a JSON Web Key Set, for whoever verifies offline.

    Example: signet receipts keys > jwks.json
    """
    click.echo(json.dumps(_open(load_settings()).jwks(), indent=2))


@receipts.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def rotate(load_settings: LoadSettings, as_json: bool) -> None:
    """Let a new key sign; running gateways take it within a second.

    The old one's private half is forgotten; its public half stays published, so its receipts still verify.

    Example: signet receipts rotate
    """
    try:
        key = ReceiptKeys.rotate(load_settings().receipt_keys_file)
    except ReceiptKeysError as error:
        raise click.ClickException(str(error)) from None
    click.echo(json.dumps(_described(key)) if as_json else f"{key.kid} signs from now on.")


def _open(settings: _Settings) -> ReceiptKeys:
    try:
        return ReceiptKeys.open(settings.receipt_keys_file)
    except ReceiptKeysError as error:
        raise click.ClickException(f"{error} (`signet serve` or `signet receipts rotate` makes one)") from None


def _described(key: ReceiptKey) -> dict[str, object]:
    return {"kid": key.kid, "created_at": key.created_at, "retired_at": key.retired_at}


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
