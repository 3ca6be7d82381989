"""The file of receipt keys: one signs, those before it stay published so that their receipts still verify.

An entry holds the public key and the secret that salts and seals follow from, and while it signs also the private key,
which is forgotten when the next one takes over: nobody can sign under a key that was retired. Several processes share
the file; each notices within `LOOK_AGAIN_S` that it was replaced, so a rotation needs no restart.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from serving.provenance.receipts.jws import Sealer, Signer, b64, describe, raw, thumbprint, unb64
from serving.provenance.secret_file import READ_ONLY, file_version, lock_beside, read_document, replace_document

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
RECEIPT_TYPE = "signet-receipt+jwt"
RECORD_TYPE = "signet-record+jwt"
SECRET_BYTES = 32
LOOK_AGAIN_S = 1.0
_WHAT = "file of receipt keys"


class ReceiptKeysError(ValueError):
    """The keys cannot be used; `str()` is the one line for the user."""


@dataclass(frozen=True, slots=True)
class ReceiptKey:
    """One entry of the file. `salt_secret` is secret for ever: it opens the hashes of its receipts.

    `sealer` seals what the ledger keeps until a receipt of it is wanted.
    """

    kid: str
    public: Ed25519PublicKey
    salt_secret: bytes = field(repr=False)
    sealer: Sealer = field(repr=False)
    signer: Signer | None = field(repr=False)
    created_at: int
    retired_at: int | None = None


class CurrentKey(NamedTuple):
    """The key that signs now, and what goes with it."""

    signer: Signer
    salt_secret: bytes
    sealer: Sealer


class ReceiptKeys:
    """The file, opened. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._keys: dict[str, ReceiptKey] = {}
        self._current: CurrentKey | None = None
        self._version: tuple[int, int, int] | None = None
        self._looked_at = 0.0

    def __repr__(self) -> str:
        return f"ReceiptKeys({str(self.path)!r}, keys={len(self._keys)})"

    @classmethod
    def open(cls, path: Path, create: bool = False) -> ReceiptKeys:
        """Read the file; with `create`, make one with a fresh key where there is none. Raises ReceiptKeysError."""
        if create and not path.exists():
            _change(path, lambda entries: entries or [_new_entry()])
        keys = cls(path)
        keys._read()
        return keys

    @classmethod
    def rotate(cls, path: Path) -> ReceiptKey:
        """Let a new key sign from now on; makes the file where there is none. Raises ReceiptKeysError."""
        _change(path, lambda entries: [*map(_retired, entries), _new_entry()])
        return cls.open(path).all()[-1]

    def current(self) -> CurrentKey:
        """The key that signs now. What goes wrong with the file meanwhile is logged, and the key as it was last read
        goes on: a file must not fail an answer."""
        now = time.monotonic()
        if now - self._looked_at > LOOK_AGAIN_S:
            self._looked_at = now
            self._refresh()
        assert self._current is not None
        return self._current

    def all(self) -> list[ReceiptKey]:
        """Every key as the file stands now, the oldest first."""
        self._refresh()
        return list(self._keys.values())

    def public(self) -> dict[str, Ed25519PublicKey]:
        """Every public key by its id."""
        return {key.kid: key.public for key in self.all()}

    def jwks(self) -> dict[str, Any]:
        """Every public key, as a JWKS."""
        return describe(self.public())

    def get(self, kid: str) -> ReceiptKey | None:
        """The key of that id, retired or not; None: there is no such key."""
        return self._keys.get(kid) or next((key for key in self.all() if key.kid == kid), None)

    def _refresh(self) -> None:
        version = file_version(self.path)
        if version is None or version == self._version:
            return
        try:
            self._read()
        except ReceiptKeysError as error:
            self._version = version  # said once
            log.error("receipt keys not read again", extra={"reason": str(error)})

    def _read(self) -> None:
        with self._lock:
            version = file_version(self.path)
            _, keys = _load(self.path)
            newest = keys[-1]
            assert newest.signer is not None
            self._keys = {key.kid: key for key in keys}
            self._current = CurrentKey(newest.signer, newest.salt_secret, newest.sealer)
            self._version = version


class _Entry(msgspec.Struct, omit_defaults=True):
    """A key in the file, its bytes as base64url."""

    kid: str
    public: str
    salt_secret: str
    created_at: int
    private: str = ""
    retired_at: int | None = None


class _Document(msgspec.Struct):
    version: int
    keys: list[_Entry]


def _new_entry() -> _Entry:
    key = Ed25519PrivateKey.generate()
    return _Entry(
        kid=thumbprint(key.public_key()),
        public=b64(raw(key.public_key())),
        salt_secret=b64(secrets.token_bytes(SECRET_BYTES)),
        created_at=int(time.time()),
        private=b64(key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())),
    )


def _retired(entry: _Entry) -> _Entry:
    return msgspec.structs.replace(entry, private="", retired_at=entry.retired_at or int(time.time()))


def _load(path: Path) -> tuple[_Document, list[ReceiptKey]]:
    try:
        content = read_document(path, _WHAT)
    except ValueError as error:
        raise ReceiptKeysError(str(error)) from None
    if not isinstance(content, dict) or content.get("version") != FORMAT_VERSION:
        raise ReceiptKeysError(f"{path} is no {_WHAT} of format version {FORMAT_VERSION}")
    try:
        document = msgspec.convert(content, _Document)
        return document, _usable(document.keys)
    except ValueError:  # msgspec's errors are ValueErrors too
        raise ReceiptKeysError(f"the {_WHAT} {path} is damaged: restore it from a backup") from None


def _usable(entries: Sequence[_Entry]) -> list[ReceiptKey]:
    """The keys of the file. Raises ValueError unless the last one signs and every part belongs to its entry."""
    keys = [_key(entry) for entry in entries]
    if not keys or keys[-1].signer is None:
        raise ValueError("no key signs")
    return keys


def _key(entry: _Entry) -> ReceiptKey:
    public, secret = Ed25519PublicKey.from_public_bytes(unb64(entry.public)), unb64(entry.salt_secret)
    signer = None
    if entry.private:
        signer = Signer(Ed25519PrivateKey.from_private_bytes(unb64(entry.private)), RECEIPT_TYPE)
    if thumbprint(public) != entry.kid or (signer and signer.kid != entry.kid) or len(secret) != SECRET_BYTES:
        raise ValueError("parts of different keys")
    # Keyed BLAKE2b with a purpose of its own: the seals' secret tells nothing about the salts.
    sealer = Sealer(blake2b(key=secret, person=b"signet-records").digest(), entry.kid, RECORD_TYPE)
    return ReceiptKey(entry.kid, public, secret, sealer, signer, entry.created_at, entry.retired_at)


def _change(path: Path, update: Callable[[list[_Entry]], list[_Entry]]) -> None:
    """Replace the file's entries, alone among the processes that share it; there are none where there is no file."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with lock_beside(path):
            entries = _load(path)[0].keys if path.exists() else []
            changed = update(entries)
            if changed != entries:
                replace_document(path, msgspec.to_builtins(_Document(FORMAT_VERSION, changed)))
    except OSError as error:
        reason = "it may only be read here" if error.errno in READ_ONLY else error.strerror
        raise ReceiptKeysError(f"the {_WHAT} {path} cannot be written: {reason}") from None
