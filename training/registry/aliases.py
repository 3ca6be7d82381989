"""Aliases: which version of a name is `production` now, and which were before."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, RootModel, ValidationError

from training.registry.errors import RegistryError, UnknownAlias
from training.registry.manifest import canonical_json
from training.registry.signature import replace_file

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


class _Aliases(RootModel[dict[str, AliasState]]):
    pass


class AliasFile:
    """`aliases.json` of one name. Readers take no lock: the file is replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "aliases.json"

    def read(self) -> dict[str, AliasState]:
        try:
            return _Aliases.model_validate_json(self.path.read_bytes()).root
        except FileNotFoundError:
            return {}
        except ValidationError as error:
            raise RegistryError(f"{self.path} is damaged: {error.errors()[0]['msg']}") from None

    def promote(self, alias: str, version: int) -> AliasState:
        """Point `alias` at `version`; pointing it where it already points changes nothing."""
        if not ALIAS_PATTERN.fullmatch(alias):
            raise RegistryError(f"{alias!r} is no alias: use small letters, digits, '.', '_', '-'")
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
                name = self.path.parent.name
                raise UnknownAlias(f"{name}@{alias} has no earlier version to roll back to")
            *previous, version = now.previous
            log = [*now.log, AliasChange(at=_now(), action="rollback", version=version)]
            states[alias] = AliasState(version=version, previous=previous, log=log)
            return states[alias]

    @contextmanager
    def _locked(self) -> Iterator[dict[str, AliasState]]:
        """Hold the name's lock round read, change and write, so that no concurrent change is lost."""
        with self.path.with_name(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            states = self.read()
            yield states
            replace_file(self.path, canonical_json({alias: s.model_dump() for alias, s in states.items()}))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
