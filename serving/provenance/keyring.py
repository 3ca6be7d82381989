"""The keyring: root secrets by epoch, whose the issued mark keys are, which are revoked.

A seed follows from a root secret and the key id alone, so an engine needs the file and a key id: a new tenant needs
no restart, and neither a tenant's name nor a seed travels over HTTP. Rotation adds an epoch; older ones stay, to find
what was marked under them. Whoever has the file open follows its changes: the gateway within a second, an engine when
it meets an epoch that it does not know.
"""

from __future__ import annotations

import hmac
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from serving.provenance import keyring_file
from serving.provenance.adjustment import Adjustment, Subject
from serving.provenance.keyring_file import Contents, KeyringError, UnknownMarkKey
from serving.provenance.mark_key import DEFAULT_SCHEME, KEY_ID, TENANT, MarkKey, Root, owner_of
from serving.provenance.secret_file import READ_ONLY, file_version

__all__ = ["Keyring", "KeyringError", "MarkKey", "UnknownMarkKey"]

log = logging.getLogger(__name__)

# How long a changed file may go unnoticed by `mark_key`, which a gateway calls with every marked answer.
LOOK_AGAIN_S = 1.0
# Salts that are kept because making one costs more than a request's parsing; clients can make up any number of them.
MOST_SALTS = 4096

_Result = TypeVar("_Result")


class Keyring:
    """A keyring file, opened. Safe to use from several threads; several processes may share the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._current: dict[tuple[str, str | None], MarkKey] = {}
        self._salts: dict[str, str] = {}
        self._unwritten: dict[str, tuple[str, str | None]] = {}
        """Keys that could not be written, on a read-only disk: whose they are, only this process knows."""
        self._version: tuple[int, int, int] | None = None
        self._look_again_at = 0.0
        self._contents: Contents
        self._read()

    def __repr__(self) -> str:
        return (
            f"Keyring({str(self.path)!r}, epochs={sorted(self._contents.roots)}, keys={len(self._contents.tenant_of)})"
        )

    @classmethod
    def open(cls, path: Path, create: bool = False) -> Keyring:
        """Read the file; with `create`, make one with a fresh root secret where there is none. Raises KeyringError."""
        if create and not path.exists():
            keyring_file.create(path)
        return cls(path)

    def mark_key(self, tenant: str, model: str | None = None) -> MarkKey:
        """What to mark the tenant's answers with: its newest key for the model that is not revoked.

        On first use the file is told whose it is. Where it cannot be written (a mounted secret), the key is the same
        and only this process knows its tenant. Raises ValueError for a name that is no tenant's.
        """
        if time.monotonic() >= self._look_again_at:
            self._refresh()
        key = self._current.get((tenant, model))
        if key is not None:
            return key
        if not TENANT.fullmatch(tenant):
            raise ValueError(f"{tenant!r} is not a tenant's name ([a-z0-9][a-z0-9._-]*, at most 63 characters)")
        with self._lock:
            key = self._issue(tenant, model)
            if key.id not in self._contents.tenant_of:
                self._record(key)
            if self._owner(key.id) != (tenant, model):  # 48 bits: one chance in a million at 24,000 keys
                raise KeyringError(f"the mark key of {tenant!r} equals another tenant's: choose another name")
            self._current[tenant, model] = key
            return key

    def keys(self) -> list[MarkKey]:
        """Every issued key of every epoch, revoked ones too, as the file stands now, by id."""
        self._refresh()
        return [self._key(key_id) for key_id in sorted({*self._contents.tenant_of, *self._unwritten})]

    def keys_of(self, tenants: Iterable[str], models: Iterable[str] = ()) -> list[MarkKey]:
        """Every key that may have marked these tenants' answers, by id.

        Where the file cannot be written, other processes may have marked with keys that it does not name: those of the
        named models and of none are there too, one for each epoch.
        """
        wanted, names = set(tenants), (None, *models)
        keys = {key.id: key for key in self.keys() if key.tenant in wanted}
        if self._unwritten or not os.access(self.path.parent, os.W_OK):
            for root, tenant, model in itertools.product(self._contents.roots.values(), wanted, names):
                for key in self._possible(root, tenant, model):
                    keys.setdefault(key.id, key)
        return [keys[key_id] for key_id in sorted(keys)]

    def by_id(self, key_id: str) -> MarkKey:
        """The issued key with this id. Raises UnknownMarkKey."""
        if self._owner(key_id) is None:
            self._refresh()
        if self._owner(key_id) is None:
            raise UnknownMarkKey(f"no key {key_id!r} was issued from {self.path}")
        return self._key(key_id)

    def seed(self, key_id: str, scheme: str = DEFAULT_SCHEME) -> int:
        """The 64-bit seed of a key id under a scheme, recorded or not, from the root secret alone.

        Raises UnknownMarkKey.
        """
        return self._root_of(key_id).seed(key_id, scheme)

    def check_permit(self, permit: str, scheme: str) -> None:
        """Let a request for a mark pass that was made by a holder of this keyring.

        Raises UnknownMarkKey.
        """
        key_id = permit.partition(".")[0]
        if not hmac.compare_digest(self._root_of(key_id).permit(key_id, scheme).encode(), permit.encode()):
            raise UnknownMarkKey(f"the mark of {key_id!r} was not asked for by a holder of this keyring")

    def _root_of(self, key_id: str) -> Root:
        match = KEY_ID.fullmatch(key_id)
        if match is None:
            raise UnknownMarkKey(f"{key_id!r} is not the id of a mark key")
        epoch = int(match[1])
        if epoch not in self._contents.roots:
            self._refresh()
        root = self._contents.roots.get(epoch)
        if root is None or not root.has_issued(match[2], match[3]):
            raise UnknownMarkKey(f"the key {key_id!r} was not issued from this keyring")
        return root

    def cache_salt(self, owner: str) -> str:
        """The owner's salt for engines' prefix caches, from the newest epoch's root: the same in every process."""
        salt = self._salts.get(owner)
        if salt is None:
            if len(self._salts) >= MOST_SALTS:
                self._salts.clear()
            salt = self._salts[owner] = self._contents.roots[max(self._contents.roots)].cache_salt(owner)
        return salt

    def is_revoked(self, key_id: str) -> bool:
        """Whether nothing may be marked with the key any more, as the file was within the last second."""
        if time.monotonic() >= self._look_again_at:
            self._refresh()
        return key_id in self._contents.revoked

    def rotate(self) -> int:
        """Begin a new epoch: from now on every tenant has a new key. Returns its number. Raises KeyringError."""

        def begin(document: dict[str, Any]) -> int:
            number = max(int(epoch["id"]) for epoch in document["epochs"]) + 1
            document["epochs"].append(keyring_file.new_epoch(number))
            return number

        return self._change(begin)

    def revoke(self, key_id: str) -> MarkKey:
        """Never mark with this key again; its tenant gets another, and what it marked is still found.

        Raises UnknownMarkKey, KeyringError.
        """
        self.by_id(key_id)
        self._change(lambda document: document.setdefault("revoked", {}).setdefault(key_id, int(time.time())))
        return self.by_id(key_id)

    @property
    def epochs(self) -> Mapping[int, int]:
        """The number of every epoch and when it began, Unix seconds."""
        return self._contents.created_at

    @property
    def adjustments(self) -> Mapping[Subject, Adjustment]:
        """What calibration on own text found, by key, scheme and tokenizer."""
        return self._contents.adjustments

    def adjust(self, adjustments: Iterable[Adjustment]) -> None:
        """Keep what calibration found, in place of what it found before. Raises KeyringError."""
        new = {one.subject: one for one in adjustments}

        def merge(document: dict[str, Any]) -> None:
            kept = [Adjustment(**entry) for entry in document.get("adjustments", [])]
            merged = {one.subject: one for one in kept} | new
            document["adjustments"] = [one.as_json() for one in merged.values()]

        self._change(merge)

    def _issue(self, tenant: str, model: str | None) -> MarkKey:
        *_, usable = self._possible(self._contents.roots[max(self._contents.roots)], tenant, model)
        return usable

    def _possible(self, root: Root, tenant: str, model: str | None) -> Iterator[MarkKey]:
        """The keys of one epoch in the order of their use: revoked ones, then the one to mark with."""
        for serial in itertools.count():
            key_id = root.key_id(owner_of(tenant, model, serial))
            revoked_at = self._contents.revoked.get(key_id)
            yield MarkKey(key_id, tenant, root, model, revoked_at)
            if revoked_at is None:
                return

    def _record(self, key: MarkKey) -> None:
        def add(document: dict[str, Any]) -> None:
            document["keys"].setdefault(key.id, key.tenant)
            if key.model is not None:
                document.setdefault("models", {}).setdefault(key.id, key.model)

        try:
            self._write(add)
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise self._cannot_write(error) from error
            self._unwritten[key.id] = key.tenant, key.model

    def _change(self, change: Callable[[dict[str, Any]], _Result]) -> _Result:
        try:
            return self._write(change)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> KeyringError:
        return KeyringError(f"cannot write the keyring {self.path}: {error.strerror}")

    def _write(self, change: Callable[[dict[str, Any]], _Result]) -> _Result:
        with self._lock:
            with keyring_file.changing(self.path) as document:
                result = change(document)
            self._read()
            return result

    def _owner(self, key_id: str) -> tuple[str, str | None] | None:
        tenant = self._contents.tenant_of.get(key_id)
        return self._unwritten.get(key_id) if tenant is None else (tenant, self._contents.model_of.get(key_id))

    def _key(self, key_id: str) -> MarkKey:
        owner = self._owner(key_id)
        match = KEY_ID.fullmatch(key_id)
        assert owner is not None
        assert match is not None
        contents = self._contents
        root = contents.roots.get(int(match[1]))
        if root is None:
            raise UnknownMarkKey(f"the epoch of {key_id!r} is gone from {self.path}: restore it from a backup")
        return MarkKey(key_id, owner[0], root, owner[1], contents.revoked.get(key_id))

    def _refresh(self) -> None:
        """Read the file again if it was replaced; one that is gone or unsound leaves what was read."""
        self._look_again_at = time.monotonic() + LOOK_AGAIN_S
        version = file_version(self.path)
        if version is None or version == self._version:
            return
        try:
            self._read()
        except KeyringError as error:
            self._version = version
            log.error("the keyring has changed and cannot be used; what was read before stays: %s", error)

    def _read(self) -> None:
        with self._lock:
            version = file_version(self.path)
            self._contents = keyring_file.read(self.path)
            self._current = {}
            self._salts = {}
            self._version = version
