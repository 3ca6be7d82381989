"""Signatures over manifests (detached, in `manifest.sig`) and aliases: Ed25519 on DSSE's pre-authentication encoding.

DSSE (github.com/secure-systems-lab/dsse) signs the payload's type together with its bytes, so that a
signature over one kind of document can never be shown as one over another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from training.registry.errors import KeyUnusable
from training.registry.manifest import canonical_json

PAYLOAD_TYPE = "application/vnd.signet.manifest+json"
TEMPORARY_PREFIX = ".staging-"
"""Of files and folders that are not finished: nothing reads them, and those of the killed are removed a day later."""


class SignatureInvalid(Exception):
    """No signature by a trusted key covers the payload; `str()` completes the sentence "manifest.sig …"."""


class SigningKeys:
    """The keys below one folder: `registry.pem` signs; `registry.pub` and `trusted/*.pub` are believed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sign(self, payload: bytes, payload_type: str = PAYLOAD_TYPE) -> tuple[str, bytes]:
        """The signing key's id and the signature; makes the key on first use."""
        key = self._private_key()
        return key_id(key.public_key()), key.sign(pre_authentication_encoding(payload, payload_type))

    def trusted(self) -> dict[str, Ed25519PublicKey]:
        """Every believed public key by its id."""
        paths = [self.folder / "registry.pub", *sorted((self.folder / "trusted").glob("*.pub"))]
        keys = [_read_public_key(path) for path in paths if path.is_file()]
        return {key_id(key): key for key in keys}

    def _private_key(self) -> Ed25519PrivateKey:
        path = self.folder / "registry.pem"
        if not path.exists():
            self._create(path)
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise KeyUnusable(f"{path} cannot be used as the signing key: {error}") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyUnusable(f"{path} is not an Ed25519 key")
        self._publish(key)
        return key

    def _create(self, path: Path) -> None:
        public = self.folder / "registry.pub"
        if public.is_file() and not path.exists():
            # A new key's public half would take its place, and nothing signed before would verify.
            raise KeyUnusable(
                f"{public} is there and its private half {path.name} is not: sign where that is, or move {public.name} "
                "to trusted/ to sign with a key of your own"
            )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        descriptor, temporary = tempfile.mkstemp(dir=self.folder, prefix=".registry-")  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            # A link, not a rename: of two processes that start together the second keeps the first one's key.
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)

    def _publish(self, key: Ed25519PrivateKey) -> None:
        path = self.folder / "registry.pub"
        pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        if not path.is_file() or path.read_bytes() != pem:
            replace_file(path, pem)


def key_id(key: Ed25519PublicKey) -> str:
    """A short name of the key: the first 16 bytes of its SHA-256, in hex."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:32]


def pre_authentication_encoding(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """DSSE's PAE: `DSSEv1 LEN(type) type LEN(payload) payload`."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def envelope(signatures: list[tuple[str, bytes]]) -> bytes:
    """The content of `manifest.sig`: a DSSE envelope without its payload, which lies beside it."""
    return canonical_json({"payloadType": PAYLOAD_TYPE, "signatures": signature_entries(signatures)})


def signature_entries(signatures: Sequence[tuple[str, bytes]]) -> list[dict[str, str]]:
    """Signatures as a DSSE envelope lists them."""
    return [{"keyid": keyid, "sig": base64.b64encode(sig).decode()} for keyid, sig in signatures]


def read_signature_entries(entries: Any) -> list[tuple[str, bytes]]:
    """The (key id, signature) pairs of an envelope's list; raises SignatureInvalid."""
    try:
        return [(str(entry["keyid"]), base64.b64decode(entry["sig"])) for entry in entries]
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise SignatureInvalid("is not a signature envelope") from None


def read_envelope(content: bytes) -> list[tuple[str, bytes]]:
    """The (key id, signature) pairs of `manifest.sig`; raises SignatureInvalid."""
    try:
        document = json.loads(content)
        if document["payloadType"] != PAYLOAD_TYPE:
            raise SignatureInvalid(f"signs something else: {document['payloadType']!r}")
        entries = document["signatures"]
    except (ValueError, KeyError, TypeError):
        raise SignatureInvalid("is not a signature envelope") from None
    return read_signature_entries(entries)


def check_signature(payload: bytes, content: bytes, trusted: dict[str, Ed25519PublicKey]) -> str:
    """Return the id of the trusted key that signed `payload`; raise SignatureInvalid when none did."""
    signer = signer_of(payload, read_envelope(content), trusted)
    if signer is None:
        raise SignatureInvalid("does not sign this manifest.json")
    return signer


def signer_of(
    payload: bytes,
    signatures: Sequence[tuple[str, bytes]],
    trusted: dict[str, Ed25519PublicKey],
    payload_type: str = PAYLOAD_TYPE,
) -> str | None:
    """The id of the trusted key that signed `payload`; None where such keys signed something else.

    Raises SignatureInvalid when no signature is by a trusted key.
    """
    known = [(trusted[keyid], keyid, signature) for keyid, signature in signatures if keyid in trusted]
    if not known:
        signers = ", ".join(keyid for keyid, _ in signatures) or "nobody"
        raise SignatureInvalid(f"is signed by {signers}, which is not a key of keys/registry.pub or keys/trusted/")
    for key, keyid, signature in known:
        try:
            key.verify(signature, pre_authentication_encoding(payload, payload_type))
            return keyid
        except InvalidSignature:
            continue
    return None


def replace_file(path: Path, content: bytes, work: Path | None = None) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one and nothing between.

    `work`: the folder, on the same file system, where a process that is killed may leave its unfinished file; the
    file's own by default.
    """
    descriptor, temporary = tempfile.mkstemp(dir=work or path.parent, prefix=TEMPORARY_PREFIX)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files of mode 0600, and engines run as other users.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read_public_key(path: Path) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise KeyUnusable(f"{path} cannot be used as a trusted key: {error}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnusable(f"{path} is not an Ed25519 public key")
    return key
