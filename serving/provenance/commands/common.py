"""What both commands need: options, the keyring, tokenizers, texts from files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from serving import DEFAULT_MODEL
from serving.provenance.keyring import Keyring
from serving.provenance.keyring_file import KeyringError
from serving.provenance.mark_key import MarkKey
from serving.provenance.schemes import SCHEMES

if TYPE_CHECKING:
    from serving.provenance.detector import Detector


class MarkCommandSettings(Protocol):
    """What these commands read of the settings tree."""

    @property
    def home(self) -> Path: ...
    @property
    def keyring_file(self) -> Path: ...
    @property
    def engine_key(self) -> str | None: ...


LoadSettings = Callable[[], MarkCommandSettings]

Command = TypeVar("Command", bound=Callable[..., Any])


def scoring_options(command: Command) -> Command:
    """FILES of text, and what scoring them takes: whose tokenizer, whose keys, which schemes."""
    for option in (
        click.option(
            "--scheme",
            "schemes",
            multiple=True,
            type=click.Choice(list(SCHEMES)),
            default=tuple(SCHEMES),
            help="May be repeated. Default: all schemes.",
        ),
        click.option("--tenant", multiple=True, help="Only this tenant's keys; may be repeated. Default: all."),
        click.option(
            "--model",
            default=DEFAULT_MODEL,
            show_default=True,
            help="Whose tokenizer: NAME[@VERSION] in the registry, or a folder.",
        ),
        click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True)),
    ):
        command = option(command)
    return command


def open_keyring(settings: MarkCommandSettings) -> Keyring:
    try:
        return Keyring.open(settings.keyring_file)
    except KeyringError as error:
        raise click.ClickException(f"{error} (the first `signet serve` makes one)") from None


def keys_to_try(ring: Keyring, tenants: Collection[str]) -> list[MarkKey]:
    """The keys of these tenants; of all where none is named."""
    issued = ring.keys()
    return [key for key in issued if not tenants or key.tenant in tenants]


def open_detector(settings: MarkCommandSettings, model: str) -> Detector:
    from serving.provenance.detector import Detector  # loads the tokenizers library

    try:
        return Detector(_tokenizer_folder(settings, model))
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def read_text(file: Path) -> str:
    """The text of a file, or of standard input for `-`."""
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return content.decode()
    except OSError as error:
        raise click.ClickException(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.ClickException(f"{file} is not text in UTF-8") from None


def _tokenizer_folder(settings: MarkCommandSettings, model: str) -> Path:
    folder = Path(model)
    if folder.is_dir():
        return folder
    from training.registry import Registry, RegistryError

    try:
        return Registry(settings.home / "registry", settings.home / "keys").resolve(model).path
    except RegistryError as error:
        raise click.ClickException(f"{error}; --model takes a checkpoint or the folder of one") from None
