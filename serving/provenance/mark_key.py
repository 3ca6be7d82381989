"""A mark key, and the root secret of an epoch that it follows from.

Every secret is HKDF-SHA256 (RFC 5869) of the root secret, so ids and seeds are the same in each process that has the
root. A key id is `mk<epoch>-<12 hex: keyed hash of the owner><8 hex: keyed check>`; the check lets a reader of the root
secret tell an issued id from an invented one without knowing the owner.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field

SECRET_BYTES = 32
SEED_BYTES = 8
PERMIT_BYTES = 16
KEY_ID = re.compile(r"mk([1-9][0-9]{0,5})-([0-9a-f]{12})([0-9a-f]{8})")
TENANT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
DEFAULT_SCHEME = "gumbel"


class Root:
    """The secret of one epoch. Shows nothing of it."""

    __slots__ = ("_extracted", "epoch")

    def __init__(self, epoch: int, secret: bytes) -> None:
        self.epoch = epoch
        self._extracted = hmac.digest(bytes(hashlib.sha256().digest_size), secret, hashlib.sha256)

    def __repr__(self) -> str:
        return f"Root(epoch={self.epoch})"

    def key_id(self, owner: str) -> str:
        """The id of the owner's key; see `owner_of`."""
        body = hmac.digest(self._derive("tenant id", 32), owner.encode(), hashlib.sha256).hex()[:12]
        return f"mk{self.epoch}-{body}{self._check(body)}"

    def has_issued(self, body: str, check: str) -> bool:
        """Whether the two parts of a key id behind its epoch belong together."""
        return hmac.compare_digest(self._check(body), check)

    def seed(self, key_id: str, scheme: str = DEFAULT_SCHEME) -> int:
        """The 64 bits that a scheme marks with under this id."""
        return int.from_bytes(self._derive(f"mark|{scheme}|{key_id}", SEED_BYTES), "big")

    def cache_salt(self, owner: str) -> str:
        """What an engine's prefix cache is salted with for an owner: 43 characters, which tell nothing of the root."""
        return salt_from(self._derive("cache salt", 32), owner)

    def permit(self, key_id: str, scheme: str) -> str:
        """What an engine is asked for a mark with: the id and a MAC (RFC 2104) that only a holder of the root can make.

        Ids are shown to everyone who gets an answer. Without the MAC, whoever reaches an engine could have it mark any
        text as any tenant's.
        """
        return f"{key_id}.{self._derive(f'permit|{scheme}|{key_id}', PERMIT_BYTES).hex()}"

    def _check(self, body: str) -> str:
        return hmac.digest(self._derive("key id", 32), f"{self.epoch}-{body}".encode(), hashlib.sha256).hex()[:8]

    def _derive(self, purpose: str, length: int) -> bytes:
        # HKDF-Expand of at most one block of 32 bytes: thousands of seeds in some milliseconds.
        return hmac.digest(self._extracted, f"signet|{purpose}".encode() + b"\x01", hashlib.sha256)[:length]


@dataclass(frozen=True, slots=True)
class MarkKey:
    """One tenant's key, for one model or for all: `id` may be shown to anyone; its seeds make and find the mark."""

    id: str
    tenant: str
    root: Root = field(repr=False, compare=False)
    model: str | None = None
    revoked_at: int | None = None
    """Unix seconds since when nothing may be marked with it any more; older answers are still found."""
    _permits: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By scheme: a gateway asks for one with every marked answer."""

    @property
    def seed(self) -> int:
        """The seed of the default scheme; a secret, as those of `seed_for`."""
        return self.root.seed(self.id)

    @property
    def epoch(self) -> int:
        return self.root.epoch

    def seed_for(self, scheme: str) -> int:
        """The 64 bits that this scheme marks with."""
        return self.root.seed(self.id, scheme)

    def permit(self, scheme: str = DEFAULT_SCHEME) -> str:
        """What an engine is asked with for this scheme's mark; not to be shown."""
        permit = self._permits.get(scheme)
        if permit is None:
            permit = self._permits[scheme] = self.root.permit(self.id, scheme)
        return permit


def salt_from(secret: bytes, owner: str) -> str:
    """256 bits of HMAC-SHA256, in base64 as vLLM's documentation recommends for `cache_salt`."""
    keyed = hmac.digest(secret, owner.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return urlsafe_b64encode(keyed).rstrip(b"=").decode()


def owner_of(tenant: str, model: str | None, serial: int) -> str:
    """Whose key it is, as the key id hashes it: the `serial`-th key of the tenant for the model.

    No part but the model's name may hold a bar, so no two owners look the same; a tenant's first key for all models
    is hashed as in the first release.
    """
    return tenant if model is None and serial == 0 else f"{tenant}|{serial}|{model or ''}"
