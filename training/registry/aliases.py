"""Aliases: which version of a name is `production` now, and which were before, signed as manifests are.

`aliases.json` holds `{"name", "aliases", "signatures"}`: one file, so that a reader never meets a change half made,
with DSSE signatures over the canonical JSON of the first two. The name is signed too: one name's aliases are not
another's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json

from serving.file_lock import file_lock
from training.registry.errors import AliasesChanged, RegistryError, UnknownAlias
from training.registry.manifest import canonical_json
from training.registry.signature import (
    SignatureInvalid,
    SigningKeys,
    read_signature_entries,
    replace_file,
    signature_entries,
    signer_of,
)

PAYLOAD_TYPE = "application/vnd.signet.aliases+json"
PRODUCTION = "production"
ALIAS_PATTERN = re.compile(r"[a-z][a-z0-9._-]{0,62}")


class AliasChange(BaseModel):
    """One line of an alias's history."""

    model_config = ConfigDict(extra="forbid")

    at: str
    action: Literal["promote", "rollback"]
    version: int


class AliasState(BaseModel):
    """Where an alias points, what `rollback` would return to (last first), and every change."""

    model_config = ConfigDict(extra="forbid")

    version: int
    previous: list[int] = []
    log: list[AliasChange] = []


_STATES = TypeAdapter(dict[str, AliasState])


class AliasFile:
    """`aliases.json` of one name. Readers take no lock: the file is replaced as a whole."""

    def __init__(self, folder: Path, keys: SigningKeys) -> None:
        self.path = folder / "aliases.json"
        self.keys = keys

    @property
    def name(self) -> str:
        return self.path.parent.name

    def read(self) -> dict[str, AliasState]:
        """Every alias, by its name; raises AliasesChanged when a trusted key has not signed them."""
        document = self._document()
        if not document:
            return {}
        if not _has_signatures(document):
            raise AliasesChanged(self.name, "is not signed")
        payload = {part: value for part, value in document.items() if part != "signatures"}
        try:
            signatures = read_signature_entries(document["signatures"])
            signer = signer_of(canonical_json(payload), signatures, self.keys.trusted(), PAYLOAD_TYPE)
        except SignatureInvalid as error:
            raise AliasesChanged(self.name, str(error)) from None
        if signer is None:
            raise AliasesChanged(self.name, "has changed since it was signed")
        if payload.get("name") != self.name:
            raise AliasesChanged(self.name, f"belongs to {payload.get('name')}: it was moved or swapped")
        return self._states(payload.get("aliases"))

    def sign(self) -> dict[str, AliasState]:
        """Sign the file as it stands, whoever wrote it, and return what it says."""
        with name_lock(self.path.parent):
            document = self._document()
            states = self._states(document.get("aliases") if _has_signatures(document) else document)
            if states:
                self._write(states)
            return states

    def promote(self, alias: str, version: int) -> AliasState:
        """Point `alias` at `version`; pointing it where it already points changes nothing."""
        if not ALIAS_PATTERN.fullmatch(alias):
            raise RegistryError(f"{alias!r} is not an alias: use lower-case letters, digits, '.', '_', '-'")
        with self._locked() as states:
            now = states.get(alias)
            if now is not None and now.version == version:
                return now
            previous = [*now.previous, now.version] if now else []
            log = [*(now.log if now else []), AliasChange(at=_now(), action="promote", version=version)]
            states[alias] = AliasState(version=version, previous=previous, log=log)
            return states[alias]

    def rollback(self, alias: str) -> AliasState:
        """Point `alias` at the version before; raises UnknownAlias when there is none."""
        with self._locked() as states:
            now = states.get(alias)
            if now is None or not now.previous:
                raise UnknownAlias(f"{self.name}@{alias} has no earlier version to roll back to")
            *previous, version = now.previous
            log = [*now.log, AliasChange(at=_now(), action="rollback", version=version)]
            states[alias] = AliasState(version=version, previous=previous, log=log)
            return states[alias]

    @contextmanager
    def _locked(self) -> Iterator[dict[str, AliasState]]:
        """Hold the name's lock round read, change and write, so that no concurrent change is lost."""
        with name_lock(self.path.parent):
            states = self.read()
            # An exception in the block leaves the file as it was.
            yield states
            self._write(states)

    def _write(self, states: dict[str, AliasState]) -> None:
        payload = {"name": self.name, "aliases": {alias: state.model_dump() for alias, state in states.items()}}
        signed = self.keys.sign(canonical_json(payload), PAYLOAD_TYPE)
        replace_file(self.path, canonical_json({**payload, "signatures": signature_entries([signed])}))

    def _document(self) -> dict[str, Any]:
        """What the file holds, nothing where there is none."""
        try:
            document = from_json(self.path.read_bytes(), allow_inf_nan=False)
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise RegistryError(f"{self.path} is damaged: {error}") from None
        if not isinstance(document, dict):
            raise RegistryError(f"{self.path} is damaged: it holds no JSON object")
        return document

    def _states(self, aliases: Any) -> dict[str, AliasState]:
        try:
            return _STATES.validate_python(aliases)
        except ValidationError as error:
            raise RegistryError(f"{self.path} is damaged: {error.errors()[0]['msg']}") from None


def _has_signatures(document: dict[str, Any]) -> bool:
    """Whether it is of this version: one of before holds aliases alone, and any of them may be called `signatures`."""
    return isinstance(document.get("signatures"), list)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def name_lock(home: Path) -> AbstractContextManager[None]:
    """Hold what whoever changes something below a name's folder holds, in this process or another."""
    return file_lock(home / ".lock")
