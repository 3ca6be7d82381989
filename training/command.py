"""What every training command shares: where the registry is, and how failures reach the user."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from training.errors import TrainingError
from training.registry import Manifest, Registry, RegistryError

_TRAINING_PACKAGES = frozenset({"accelerate", "opacus", "optuna", "peft", "safetensors", "torch", "transformers"})


class TrainingSettings(Protocol):
    """The part of the settings tree that these commands read."""

    home: Path


Command = TypeVar("Command", bound=Callable[..., Any])


def measured_on(manifest: Manifest) -> str:
    """On which text a checkpoint's perplexities were measured, as a line for the user: on another they are others."""
    held_out = [each for each in manifest.data if each.role == "heldout"]
    where = f"{held_out[0].rows} chats of {held_out[0].name}" if held_out else "chats"
    tokens = manifest.evaluation.get("heldout_tokens")
    amount = f"{tokens:.0f} tokens that the assistant says" if tokens else "what the assistant says"
    return f"Perplexity of {amount} in {where}, which were kept out; on another text it is another."


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
        except KeyboardInterrupt:
            raise click.ClickException("interrupted: nothing was registered") from None

    return wrapper  # type: ignore[return-value]


def open_registry(settings: TrainingSettings) -> Registry:
    """The registry below SIGNET_HOME."""
    return Registry(settings.home / "registry", settings.home / "keys")
