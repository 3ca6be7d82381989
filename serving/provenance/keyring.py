"""The keyring file: root secrets, and which tenant each issued mark key belongs to.

    KeyringError
    └── UnknownMarkKey

A tenant's seed follows from a root secret and the key id alone, so an engine needs the file as it was at its
start and a key id: a new tenant needs no restart, and neither a tenant's name nor a seed travels over HTTP.
A key id is `mk<epoch>-<12 hex: keyed hash of the tenant><8 hex: keyed check>`; the check lets a reader
of the root secret tell an issued id from an invented one without knowing the tenant.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FORMAT_VERSION = 1
SECRET_BYTES = 32
KEY_ID = re.compile(r"mk([1-9][0-9]{0,5})-([0-9a-f]{12})([0-9a-f]{8})")
READ_ONLY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
TENANT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class KeyringError(Exception):
    """The keyring cannot be used; `str()` is the one line for the user."""


class UnknownMarkKey(KeyringError):
    """No root secret of this keyring issued the key id."""


@dataclass(frozen=True, slots=True)
class MarkKey:
    """One tenant's key: `id` may be shown to anyone, `seed` (64 bits) is the secret that makes and finds the mark."""

    id: str
    tenant: str
    seed: int = field(repr=False)


class Keyring:
    """A keyring file, opened. Safe to use from several threads; several processes may share the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._secrets: dict[int, bytes] = {}
        self._tenant_of: dict[str, str] = {}
        self._current: dict[str, MarkKey] = {}  # by tenant, newest epoch: the gateway asks once a request
        self._version: tuple[int, int, int] | None = None

    def __repr__(self) -> str:
        return f"Keyring({str(self.path)!r}, epochs={sorted(self._secrets)}, keys={len(self._tenant_of)})"

    @classmethod
    def open(cls, path: Path, create: bool = False) -> Keyring:
        """Read the file; with `create`, make one with a fresh root secret where there is none. Raises KeyringError."""
        ring = cls(path)
        if create and not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _file_lock(path):
                if not path.exists():
                    _replace(path, _new_document())
        ring._read()
        return ring

    def mark_key(self, tenant: str) -> MarkKey:
        """The tenant's key in the newest epoch; on first use the file is told whose it is.

        Where the file cannot be written (a mounted secret), the key is the same and only this process knows its
        tenant. Raises ValueError for a name that is no tenant's.
        """
        key = self._current.get(tenant)
        if key is not None:
            return key
        if not TENANT.fullmatch(tenant):
            raise ValueError(f"{tenant!r} is not a tenant's name ([a-z0-9][a-z0-9._-]*, at most 63 characters)")
        with self._lock:
            key_id = self._issue(tenant)
            if key_id not in self._tenant_of:
                self._record(key_id, tenant)
                self._tenant_of[key_id] = tenant
            if self._tenant_of[key_id] != tenant:  # 48 bits: one chance in a million at 24,000 tenants
                raise KeyringError(f"the mark key of {tenant!r} equals another tenant's: choose another name")
            key = self._current[tenant] = self._key(key_id)
            return key

    def keys(self) -> list[MarkKey]:
        """Every issued key of every epoch, as the file stands now, by id."""
        self._refresh()
        return [self._key(key_id) for key_id in sorted(self._tenant_of)]

    def by_id(self, key_id: str) -> MarkKey:
        """The issued key with this id. Raises UnknownMarkKey."""
        if key_id not in self._tenant_of:
            self._refresh()
        if key_id not in self._tenant_of:
            raise UnknownMarkKey(f"no key {key_id!r} was issued from {self.path}")
        return self._key(key_id)

    def seed(self, key_id: str, scheme: str = "gumbel") -> int:
        """The 64-bit seed of a key id under a scheme, recorded or not, from the root secret alone.

        Raises UnknownMarkKey.
        """
        match = KEY_ID.fullmatch(key_id)
        if match is None:
            raise UnknownMarkKey(f"{key_id!r} is not the id of a mark key")
        epoch = int(match[1])
        if epoch not in self._secrets:
            self._refresh()
        secret = self._secrets.get(epoch)
        if secret is None or not hmac.compare_digest(_check(secret, epoch, match[2]), match[3]):
            raise UnknownMarkKey(f"the key {key_id!r} was not issued from this keyring")
        return int.from_bytes(_derive(secret, f"mark|{scheme}|{key_id}", 8), "big")

    def _key(self, key_id: str) -> MarkKey:
        return MarkKey(key_id, self._tenant_of[key_id], self.seed(key_id))

    def _issue(self, tenant: str) -> str:
        epoch = max(self._secrets)
        secret = self._secrets[epoch]
        body = hmac.digest(_derive(secret, "tenant id", 32), tenant.encode(), hashlib.sha256).hex()[:12]
        return f"mk{epoch}-{body}{_check(secret, epoch, body)}"

    def _record(self, key_id: str, tenant: str) -> None:
        try:
            with _file_lock(self.path):
                document = _load(self.path)
                document["keys"].setdefault(key_id, tenant)
                _replace(self.path, document)
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise KeyringError(f"cannot write the keyring {self.path}: {error.strerror}") from error

    def _refresh(self) -> None:
        """Read the file again if it was replaced; a file that is gone leaves what was read."""
        version = _version(self.path)
        if version is not None and version != self._version:
            self._read()

    def _read(self) -> None:
        with self._lock:
            version = _version(self.path)
            document = _load(self.path)
            self._secrets = {int(epoch["id"]): base64.b64decode(epoch["secret"]) for epoch in document["epochs"]}
            # Keys that could not be written stay known to this process.
            self._tenant_of = {**self._tenant_of, **document["keys"]}
            self._current = {}
            self._version = version


def _derive(secret: bytes, purpose: str, length: int) -> bytes:
    return HKDF(SHA256(), length=length, salt=None, info=f"signet|{purpose}".encode()).derive(secret)


def _check(secret: bytes, epoch: int, body: str) -> str:
    return hmac.digest(_derive(secret, "key id", 32), f"{epoch}-{body}".encode(), hashlib.sha256).hex()[:8]


def _new_document() -> dict[str, Any]:
    secret = base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    epoch = {"id": 1, "secret": secret, "created_at": int(time.time())}
    return {"version": FORMAT_VERSION, "epochs": [epoch], "keys": {}}


def _version(path: Path) -> tuple[int, int, int] | None:
    """Changes whenever the file is replaced; None when it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _load(path: Path) -> dict[str, Any]:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o007:
            raise KeyringError(f"the keyring {path} is open to every user (mode {mode:04o}): run chmod 600 {path}")
        document = json.loads(path.read_text())
    except FileNotFoundError:
        raise KeyringError(f"there is no keyring at {path}") from None
    except PermissionError:
        raise KeyringError(f"the keyring {path} may not be read by this user") from None
    except (OSError, ValueError) as error:
        raise KeyringError(f"the keyring {path} cannot be read: {error}") from None
    _validate(path, document)
    return dict(document)


def _validate(path: Path, document: Any) -> None:
    if not isinstance(document, dict) or document.get("version") != FORMAT_VERSION:
        raise KeyringError(f"{path} is not a keyring of format version {FORMAT_VERSION}")
    try:
        lengths = {len(base64.b64decode(epoch["secret"], validate=True)) for epoch in document["epochs"]}
        epochs_sound = lengths == {SECRET_BYTES} and all(int(epoch["id"]) > 0 for epoch in document["epochs"])
        keys_sound = all(KEY_ID.fullmatch(key_id) for key_id in document["keys"])
    except (KeyError, TypeError, ValueError):
        epochs_sound = keys_sound = False
    if not (epochs_sound and keys_sound):
        raise KeyringError(f"the keyring {path} is damaged: restore it from a backup")


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Hold the lock beside the file: the file itself is replaced, which would leave a lock on it behind."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, document: dict[str, Any]) -> None:
    """Write the whole document or nothing, readable by its owner only (or as the file was before)."""
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, mode)
        json.dump(document, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(descriptor)
    os.replace(temporary, path)
