"""What training commands share: where models are found, and how failures and interruptions reach the user."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from serving import DEFAULT_MODEL
from training.encoder import NAME as ENCODER
from training.encoder import prepare_encoder
from training.errors import TrainingError
from training.registry import Manifest, Registry, RegistryError, UnknownCheckpoint

if TYPE_CHECKING:
    from training.evaluate.source import Source

_TRAINING_PACKAGES = frozenset(
    {"accelerate", "gguf", "jinja2", "opacus", "optuna", "peft", "safetensors", "torch", "transformers"}
)


class TrainingSettings(Protocol):
    """The part of the settings tree that these commands read."""

    home: Path


Command = TypeVar("Command", bound=Callable[..., Any])


def measured_on(manifest: Manifest, is_chats: bool = True) -> str:
    """On which text a checkpoint's perplexities were measured, as a line for the user: on another they are others."""
    held_out = [data_set for data_set in manifest.data if data_set.role == "heldout"]
    # Several are files of one folder.
    folder = os.path.commonpath([data_set.name for data_set in held_out]) if held_out else ""
    tokens = manifest.evaluation.get("heldout_tokens")
    if not is_chats:
        return f"Perplexity of {tokens:.0f} tokens of {folder}, which were held out. Other texts give other values."
    where = f"{sum(data_set.rows for data_set in held_out)} chats of {folder}" if held_out else "chats"
    amount = f"{tokens:.0f} tokens that the assistant says" if tokens else "what the assistant says"
    return f"Perplexity of {amount} in {where}, which were held out. Other texts give other values."


def one_line_errors(command: Command) -> Command:
    """Turn every failure that the user can fix into one line and exit code 1."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (RegistryError, TrainingError) as error:
            raise click.ClickException(" ".join(str(error).split())) from None
        except ModuleNotFoundError as error:
            if error.name not in _TRAINING_PACKAGES:
                raise
            raise click.ClickException(f"{error.name} is not installed: pip install 'signet[train,cpu]'") from None
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{where}{error.strerror or error}") from None
        except KeyboardInterrupt as interrupt:
            advice = f"; {interrupt}" if interrupt.args else ""  # where something was saved
            raise click.ClickException(f"interrupted: nothing was registered{advice}") from None

    return wrapper  # type: ignore[return-value]


def open_registry(settings: TrainingSettings) -> Registry:
    """The registry below SIGNET_HOME."""
    return Registry(settings.home / "registry", settings.home / "keys")


def find_model(ref: str, store: Registry, settings: TrainingSettings, show_progress: bool = True) -> Source:
    """The verified model behind a reference; the default one is prepared where it is missing."""
    from training.evaluate import resolve_source

    try:
        return resolve_source(ref, store, show_progress)
    except UnknownCheckpoint:
        name = ref.partition("@")[0]
        if name not in (DEFAULT_MODEL, ENCODER) or store.has(name):
            raise
    if name == ENCODER:
        prepare_encoder(store, settings.home / "cache", show_progress)
    else:
        _prepare_default_model(settings)
    return resolve_source(ref, store, show_progress)


def _prepare_default_model(settings: TrainingSettings) -> None:
    """Have the engine's side fetch and register it: a process of its own, as the packages meet only in files."""
    command = [sys.executable, "-m", "signet", "engine", "--prepare-only"]
    # Its output is progress, and standard output is for results.
    environment = {**os.environ, "SIGNET_HOME": str(settings.home)}
    if subprocess.run(command, stdout=sys.stderr, env=environment).returncode:
        raise TrainingError(f"{DEFAULT_MODEL} could not be prepared: see above, or run `signet engine --prepare-only`")


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let a supervisor's SIGTERM clean up as Ctrl-C does."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
