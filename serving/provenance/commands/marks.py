"""`signet marks`: the keys of the watermark."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from serving.provenance.commands.common import (
    LoadSettings,
    keys_to_try,
    open_detector,
    open_keyring,
    read_text,
    scoring_options,
)
from serving.provenance.keyring_file import KeyringError
from serving.provenance.mark_key import DEFAULT_SCHEME, MarkKey
from serving.provenance.schemes import SCHEMES, lefthash

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def marks() -> None:
    """Manage the keys of the watermark.

    Example: signet marks list
    """


@marks.command("list")
@as_json_option
@click.pass_obj
def list_keys(load_settings: LoadSettings, as_json: bool) -> None:
    """List the issued mark keys and whose they are; no secrets.

    Example: signet marks list --json
    """
    keys = open_keyring(load_settings()).keys()
    if as_json:
        click.echo(json.dumps([_as_json(key) for key in keys]))
        return
    for key in keys:
        model = f"  {key.model}" if key.model is not None else ""
        revoked = f"  revoked {_day(key.revoked_at)}" if key.revoked_at is not None else ""
        click.echo(f"{key.id}  {key.tenant}{model}{revoked}")
    if not keys:
        click.echo("No mark keys yet: a tenant gets one with its first marked answer.")


@marks.command()
@click.argument("key_id")
@click.option(
    "--scheme",
    type=click.Choice([*SCHEMES, lefthash.NAME]),
    default=DEFAULT_SCHEME,
    show_default=True,
    help="Whose integer.",
)
@as_json_option
@click.pass_obj
def export(load_settings: LoadSettings, key_id: str, scheme: str, as_json: bool) -> None:
    """Print the 64-bit integer that the engine marks with under KEY_ID, for another detector.

    It is a secret: whoever has it can find this tenant's marks, and forge them.

    Example: signet marks export mk1-0123456789ab01234567
    """
    try:
        key = open_keyring(load_settings()).by_id(key_id)
    except KeyringError as error:
        raise click.ClickException(str(error)) from None
    seed = key.seed_for(scheme)
    if as_json:
        click.echo(json.dumps({"key_id": key.id, "tenant": key.tenant, "scheme": scheme, "seed": seed}))
    else:
        click.echo(seed)


@marks.command()
@as_json_option
@click.pass_obj
def rotate(load_settings: LoadSettings, as_json: bool) -> None:
    """Begin a new epoch: a fresh root secret, so that every tenant is marked with a new key.

    A running gateway takes it up within a second, engines with the first answer. Answers marked before are still found:
    keep the file.

    Example: signet marks rotate
    """
    ring = open_keyring(load_settings())
    try:
        epoch = ring.rotate()
    except KeyringError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps({"epoch": epoch, "keyring": str(ring.path)}))
    else:
        click.echo(f"Epoch {epoch} has begun. Back up {ring.path}: without it no mark of the new epoch can be found.")


@marks.command()
@click.argument("key_id")
@as_json_option
@click.pass_obj
def revoke(load_settings: LoadSettings, key_id: str, as_json: bool) -> None:
    """Never mark with KEY_ID again, for one that somebody else has come to know.

    Its tenant is marked with another key from now on. What it marked is still found, and reported as marked with a
    revoked key: anybody who knows the key may have forged it.

    Example: signet marks revoke mk1-0123456789ab01234567
    """
    try:
        key = open_keyring(load_settings()).revoke(key_id)
    except KeyringError as error:
        raise click.ClickException(str(error)) from None
    click.echo(json.dumps(_as_json(key)) if as_json else f"{key.id} of {key.tenant} is revoked.")


@marks.command()
@scoring_options
@click.option(
    "--window",
    default=200,
    show_default=True,
    type=click.IntRange(20, 100_000),
    help="Tokens of one window: about as many as the texts that will be judged have.",
)
@as_json_option
@click.pass_obj
def calibrate(
    load_settings: LoadSettings,
    files: tuple[Path, ...],
    model: str,
    tenant: tuple[str, ...],
    schemes: tuple[str, ...],
    window: int,
    as_json: bool,
) -> None:
    """Learn from your own unmarked text in FILES how much each key's scores deviate, and use it from now on.

    Texts of one kind repeat their phrases, and a phrase scores under one key what it scores: a false alarm is then
    likelier under some keys than stated. Give at least fifty windows of text that nobody marked, of the kind you will
    ask about.

    Example: signet marks calibrate letters/*.txt
    """
    from serving.provenance.detection.calibrate import calibrate as adjustments_of
    from serving.provenance.detection.calibrate import windows_of

    settings = load_settings()
    ring, detector = open_keyring(settings), open_detector(settings, model)
    keys = keys_to_try(ring, tenant)
    windows = [part for file in files for part in windows_of(detector.token_ids(read_text(file)), window)]
    adjustments = []
    try:
        for scheme in schemes:
            with click.progressbar(windows, label=scheme, file=sys.stderr) as shown:
                adjustments += adjustments_of(shown, keys, detector.digest, scheme)
        ring.adjust(adjustments)
    except (KeyringError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps([adjustment.as_json() for adjustment in adjustments]))
        return
    for adjustment in adjustments:
        amounts = f"shift {adjustment.shift:.4f}  spread {adjustment.spread:.3f}"
        click.echo(f"{adjustment.key_id}  {adjustment.scheme}  {amounts}")
    click.echo(f"{len(keys)} keys calibrated on {len(windows)} windows of {window} tokens.")


def _as_json(key: MarkKey) -> dict[str, object]:
    return {
        "key_id": key.id,
        "tenant": key.tenant,
        "model": key.model,
        "epoch": key.epoch,
        "revoked_at": key.revoked_at,
    }


def _day(moment: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment))
