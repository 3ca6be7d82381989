"""What can go wrong with a checkpoint. `str()` of each is the one line that the user reads.

RegistryError
  UnknownCheckpoint   a reference that names nothing
  UnknownAlias        an alias that points nowhere, or has nothing to roll back to
  UnusableFolder      a folder that cannot be registered
  CheckpointChanged   a checkpoint that is not what was signed
  AliasesChanged      a name's aliases that are not what was signed
  BaseMismatch        an adapter beside a base that it was not trained on
  NotServable         what no engine can put on a base
  KeyUnusable         a signing or trusted key that cannot be read
"""

from __future__ import annotations


class RegistryError(Exception):
    """Any failure of the registry."""


class UnknownCheckpoint(RegistryError):
    """The reference names no checkpoint of this registry."""


class UnknownAlias(RegistryError):
    """The alias is not set, or has no earlier version."""


class UnusableFolder(RegistryError):
    """The folder cannot become a checkpoint."""


class CheckpointChanged(RegistryError):
    """The checkpoint differs from its signed manifest: `file` is the first that does, `why` says how."""

    def __init__(self, ref: str, file: str, why: str) -> None:
        super().__init__(f"checkpoint {ref} does not verify: {file} {why}")
        self.ref = ref
        self.file = file
        self.why = why


class AliasesChanged(RegistryError):
    """A name's `aliases.json` is not what was signed, or was never signed: `why` says how."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"the aliases of {name} do not verify: aliases.json {why}. "
            f"If it says what you want, sign it with `signet registry sign-aliases {name}`"
        )
        self.ref = name
        self.file = "aliases.json"
        self.why = why


class BaseMismatch(RegistryError):
    """The adapter was trained on another base."""


class NotServable(RegistryError):
    """The checkpoint is no adapter that an engine can put on a base."""


class KeyUnusable(RegistryError):
    """A key file is not an Ed25519 key in PEM."""
