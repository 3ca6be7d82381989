"""The keyring's document on disk: what it holds, whether it is sound, and how it is changed.

    KeyringError
    └── UnknownMarkKey

`version`, `epochs` and `keys` (key id to tenant) are as in the first release. `models` (key id to model), `revoked`
(key id to Unix seconds) and `adjustments` may be there beside them: older programs keep what they do not know.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from serving.provenance.adjustment import Adjustment, Subject
from serving.provenance.mark_key import KEY_ID, SECRET_BYTES, Root
from serving.provenance.secret_file import lock_beside, read_document, replace_document

FORMAT_VERSION = 1

Value = TypeVar("Value")


class KeyringError(Exception):
    """The keyring cannot be used; `str()` is the one line for the user."""


class UnknownMarkKey(KeyringError):
    """No root secret of this keyring issued the key id."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A keyring file, read."""

    roots: Mapping[int, Root]
    created_at: Mapping[int, int]
    """Of each epoch, Unix seconds; 0 where the file does not say."""
    tenant_of: Mapping[str, str]
    model_of: Mapping[str, str]
    revoked: Mapping[str, int]
    adjustments: Mapping[Subject, Adjustment]


def create(path: Path) -> None:
    """Make a keyring with a fresh root secret, unless there is one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lock_beside(path):
        if not path.exists():
            replace_document(path, {"version": FORMAT_VERSION, "epochs": [new_epoch(1)], "keys": {}})


def new_epoch(number: int) -> dict[str, Any]:
    """An epoch with a fresh root secret."""
    secret = base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    return {"id": number, "secret": secret, "created_at": int(time.time())}


def read(path: Path) -> Contents:
    """Raises KeyringError for a file that is not there, not private or not sound."""
    return _contents(path, _load(path))


@contextmanager
def changing(path: Path) -> Iterator[dict[str, Any]]:
    """The document, to be changed in place; written when the block ends well, and no other process between.

    Raises OSError where it cannot be written.
    """
    with lock_beside(path):
        document = _load(path)
        yield document
        _contents(path, document)
        replace_document(path, document)


def _load(path: Path) -> dict[str, Any]:
    try:
        document = read_document(path, "keyring")
    except ValueError as error:
        raise KeyringError(str(error)) from None
    if not isinstance(document, dict) or document.get("version") != FORMAT_VERSION:
        raise KeyringError(f"{path} is not a keyring of format version {FORMAT_VERSION}")
    return document


def _contents(path: Path, document: dict[str, Any]) -> Contents:
    try:
        epochs = {int(epoch["id"]): epoch for epoch in document["epochs"]}
        roots = {number: Root(number, _secret(epoch["secret"])) for number, epoch in epochs.items()}
        contents = Contents(
            roots=roots,
            created_at={number: int(epoch.get("created_at", 0)) for number, epoch in epochs.items()},
            tenant_of=_by_key(document["keys"], str),
            model_of=_by_key(document.get("models", {}), str),
            revoked=_by_key(document.get("revoked", {}), int),
            adjustments={
                one.subject: one for one in (Adjustment(**entry) for entry in document.get("adjustments", []))
            },
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        contents = None
    if contents is None or not roots or min(roots) < 1:
        raise KeyringError(f"the keyring {path} is damaged: restore it from a backup")
    return contents


def _secret(encoded: str) -> bytes:
    secret = base64.b64decode(encoded, validate=True)
    if len(secret) != SECRET_BYTES:
        raise ValueError("a root secret has another length")
    return secret


def _by_key(section: Mapping[str, Value], kind: type[Value]) -> dict[str, Value]:
    if not all(KEY_ID.fullmatch(key_id) and isinstance(value, kind) for key_id, value in section.items()):
        raise ValueError("a key id or what belongs to it is malformed")
    return dict(section)
