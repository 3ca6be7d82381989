"""`signet marks` and `signet detect`: the keys of the watermark, and whether a text carries a mark."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import click

from serving.provenance.keyring import Keyring, KeyringError

DEFAULT_MODEL = "smollm2-135m-instruct"


class _Settings(Protocol):
    """What these commands read of the settings tree."""

    @property
    def home(self) -> Path: ...
    @property
    def keyring_file(self) -> Path: ...


def _open_keyring(settings: _Settings) -> Keyring:
    try:
        return Keyring.open(settings.keyring_file)
    except KeyringError as error:
        raise click.ClickException(f"{error} (the first `signet serve` makes one)") from None


@click.group()
def marks() -> None:
    """Manage the keys of the watermark.

    Example: signet marks list
    """


@marks.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_keys(load_settings: Callable[[], _Settings], as_json: bool) -> None:
    """List the issued mark keys and whose they are; no secrets.

    Example: signet marks list --json
    """
    keys = _open_keyring(load_settings()).keys()
    if as_json:
        click.echo(json.dumps([{"key_id": key.id, "tenant": key.tenant} for key in keys]))
        return
    for key in keys:
        click.echo(f"{key.id}  {key.tenant}")
    if not keys:
        click.echo("No mark keys yet: a tenant gets one with its first marked answer.")


@marks.command()
@click.argument("key_id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def export(load_settings: Callable[[], _Settings], key_id: str, as_json: bool) -> None:
    """Print the 64-bit integer that the engine marks with under KEY_ID, for another detector.

    It is a secret: whoever has it can find this tenant's marks, and forge them.

    Example: signet marks export mk1-0123456789ab01234567
    """
    try:
        key = _open_keyring(load_settings()).by_id(key_id)
    except KeyringError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps({"key_id": key.id, "tenant": key.tenant, "scheme": "gumbel", "seed": key.seed}))
    else:
        click.echo(key.seed)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="Whose tokenizer: NAME[@VERSION] in the registry, or a folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def detect(load_settings: Callable[[], _Settings], file: Path, model: str, as_json: bool) -> None:
    """Tell whether the text in FILE (- for standard input) carries one of our marks, and whose.

    Example: signet detect answer.txt --json
    """
    from serving.provenance.detector import Detector  # loads the tokenizers library

    settings = load_settings()
    keys = _open_keyring(settings).keys()
    text = _read_text(file)
    try:
        found = Detector(_tokenizer_folder(settings, model)).detect_text(text, keys)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        fields = ("marked", "p_value", "tokens_scored", "key_id", "tenant")
        click.echo(json.dumps({name: getattr(found, name) for name in fields}))
    elif found.marked:
        click.echo(
            f"Marked by {found.tenant} ({found.key_id}), p = {found.p_value:.2g} over {found.tokens_scored} tokens."
        )
    else:
        click.echo(f"No mark found: p = {found.p_value:.2g} over {found.tokens_scored} tokens and {len(keys)} keys.")


def _read_text(file: Path) -> str:
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return content.decode()
    except OSError as error:
        raise click.ClickException(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.ClickException(f"{file} is not text in UTF-8") from None


def _tokenizer_folder(settings: _Settings, model: str) -> Path:
    folder = Path(model)
    if folder.is_dir():
        return folder
    from training.registry import Registry, RegistryError

    try:
        return Registry(settings.home / "registry", settings.home / "keys").resolve(model).path
    except RegistryError as error:
        raise click.ClickException(f"{error}; --model takes a checkpoint or the folder of one") from None
