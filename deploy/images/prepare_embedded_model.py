"""Build step of the CPU engine's image: prepare the embedded model below SIGNET_HOME, ready to be verified offline.

    SIGNET_HOME=/var/lib/signet python prepare_embedded_model.py

The key that signs it is thrown away: an image is public to all who pull it, and only the public half is needed
to verify.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from serving.engine.default_model import OnProgress, ensure_default_model
from training.registry import Checkpoint, Registry

Prepare = Callable[[Registry, Path, OnProgress], Checkpoint]


def prepare_home(home: Path, prepare: Prepare = ensure_default_model) -> Checkpoint:
    """Fill `home` with the registered model and the public key; leave no private key and no downloads."""
    registry = Registry(home / "registry", home / "keys")
    checkpoint = prepare(registry, home / "cache", _say)
    (home / "keys" / "registry.pem").unlink()
    shutil.rmtree(home / "cache", ignore_errors=True)
    # The chart mounts volumes here; they must exist in a read-only root.
    for folder in ("cache", "keys/trusted"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    registry.verify(checkpoint)
    return checkpoint


def _say(what: str, done: int, total: int) -> None:
    if done in (0, total):
        sys.stdout.write(f"{what}\n")


if __name__ == "__main__":
    sys.stdout.write(f"prepared {prepare_home(Path(os.environ['SIGNET_HOME'])).ref}\n")
