"""A keyring that is the same in every run: what is random in a test of statistics must not be its keys."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from serving.provenance import Keyring


def fixed_keyring(folder: Path) -> Keyring:
    """Made in the folder, with a root secret that everybody knows."""
    file = folder / "keyring.json"
    secret = base64.b64encode(bytes(range(32))).decode()
    file.touch(0o600)
    file.write_text(json.dumps({"version": 1, "epochs": [{"id": 1, "secret": secret, "created_at": 0}], "keys": {}}))
    return Keyring.open(file)
