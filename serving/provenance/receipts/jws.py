"""JSON Web Signatures in compact form, with Ed25519 or sealed with HMAC-SHA256, and no more of JOSE than that.

RFC 7515 (JWS), RFC 8037 (EdDSA with Ed25519), RFC 7518 (HS256), RFC 7517 (keys), RFC 7638 (a key's thumbprint is its
id).
"""

from __future__ import annotations

import base64
import hmac
from binascii import b2a_base64
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ALGORITHM = "EdDSA"
SEAL_ALGORITHM = "HS256"
_encode = msgspec.json.Encoder().encode
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class _Header(msgspec.Struct):
    alg: str
    kid: str = ""
    typ: str = ""
    crit: list[str] | None = None


_decode_header = msgspec.json.Decoder(_Header).decode


class NotSigned(ValueError):
    """No signature of a known key covers this; `str()` says why, as the end of a sentence about it."""


def b64(data: bytes) -> str:
    """base64url without padding."""
    return _b64(data).decode()


def _b64(data: bytes) -> bytes:
    # A receipt has nine of them: two thirds of what the library's own takes.
    return b2a_base64(data, newline=False).translate(_URL_SAFE, b"=")


def unb64(text: str) -> bytes:
    """Raises ValueError unless `text` is base64url, written the one way there is."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise ValueError("not base64url") from None
    # Python's decoder passes over what does not belong there.
    if b64(data) != text:
        raise ValueError("not base64url")
    return data


def raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def public_jwk(key: Ed25519PublicKey) -> dict[str, str]:
    """The key as a JWK, named by its thumbprint."""
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(raw(key))}
    return {**jwk, "kid": thumbprint(key), "alg": ALGORITHM, "use": "sig"}


def thumbprint(key: Ed25519PublicKey) -> str:
    """RFC 7638: SHA-256 over the required members, in the order of their names."""
    return b64(sha256(_encode({"crv": "Ed25519", "kty": "OKP", "x": b64(raw(key))})).digest())


def read_jwks(content: bytes) -> dict[str, Ed25519PublicKey]:
    """The Ed25519 keys of a JWKS by their thumbprints; keys of other kinds are passed over. Raises ValueError."""
    from jwt import PyJWKSet, PyJWTError  # takes as long as all the rest to import, and few need it

    try:
        keys = [jwk.key for jwk in PyJWKSet.from_json(content.decode()).keys]
    except (PyJWTError, ValueError, AttributeError):
        raise ValueError("this is no set of JSON Web Keys") from None
    return {thumbprint(key): key for key in keys if isinstance(key, Ed25519PublicKey)}


class Signer:
    """A private key that signs one kind of statement; what does not change of them is encoded once."""

    def __init__(self, key: Ed25519PrivateKey, typ: str) -> None:
        self.kid = thumbprint(key.public_key())
        self._key = key
        self._head = b64(_encode({"alg": ALGORITHM, "kid": self.kid, "typ": typ})).encode() + b"."

    def of_type(self, typ: str) -> Signer:
        """The same key for statements of another kind, which nobody can take for this one's."""
        return Signer(self._key, typ)

    def sign(self, payload: bytes) -> str:
        """The payload as a compact JWS."""
        message = self._head + _b64(payload)
        return (message + b"." + _b64(self._key.sign(message))).decode()


class Sealer:
    """A secret that seals one kind of statement: a few microseconds, and only who has it can check them."""

    def __init__(self, secret: bytes, kid: str, typ: str) -> None:
        self._secret = secret
        self._typ = typ
        self._head = b64(_encode({"alg": SEAL_ALGORITHM, "kid": kid, "typ": typ})).encode() + b"."

    def seal(self, payload: bytes) -> str:
        """The payload as a compact JWS."""
        message = self._head + _b64(payload)
        return (message + b"." + _b64(hmac.digest(self._secret, message, "sha256"))).decode()

    def open(self, token: str) -> bytes:
        """The payload of what `seal` made. Raises NotSigned."""
        header, payload, seal, message = _taken_apart(token)
        if header.alg != SEAL_ALGORITHM or header.typ != self._typ or header.crit is not None:
            raise NotSigned(f"is not sealed as a {self._typ}")
        if not hmac.compare_digest(seal, hmac.digest(self._secret, message, "sha256")):
            raise NotSigned("was changed after it was recorded, or was never recorded under this key")
        return payload


def verify(token: str, keys: Mapping[str, Ed25519PublicKey], typ: str) -> tuple[bytes, str]:
    """The payload of a compact JWS and the id of the key that signed it.

    Raises:
        NotSigned: it is no JWS of this type, its key is not among `keys`, or the signature does not hold.
    """
    header, payload, signature, message = _taken_apart(token)
    if header.alg != ALGORITHM or header.crit is not None:
        raise NotSigned(f"is not signed as {ALGORITHM}")
    if header.typ != typ:
        raise NotSigned(f"is a statement of another type than {typ}")
    key = keys.get(header.kid)
    if key is None:
        raise NotSigned("is signed by a key that is not among the issuer's")
    try:
        key.verify(signature, message)
    except InvalidSignature:
        raise NotSigned("was changed after it was signed, or was never signed by this key") from None
    return payload, header.kid


def _taken_apart(token: str) -> tuple[_Header, bytes, bytes, bytes]:
    """Header, payload, signature, and the bytes that are signed. Raises NotSigned."""
    try:
        head, payload, signature = token.split(".")
        return _decode_header(unb64(head)), unb64(payload), unb64(signature), f"{head}.{payload}".encode()
    except ValueError:  # msgspec's errors are ValueErrors too
        raise NotSigned("is not a JWS in compact form") from None


def kid_of(token: str) -> str:
    """The id of the key that a JWS says it is signed with; nothing is verified. Raises ValueError for no JWS."""
    return _decode_header(unb64(token.partition(".")[0])).kid


def is_sealed(token: str) -> bool:
    """Whether a JWS says that it is sealed, not signed; nothing is verified. Raises ValueError for no JWS."""
    return _decode_header(unb64(token.partition(".")[0])).alg == SEAL_ALGORITHM


def unverified(token: str) -> bytes:
    """The payload of a JWS. Raises ValueError for no JWS."""
    return _taken_apart(token)[1]


def describe(jwks: Mapping[str, Ed25519PublicKey]) -> dict[str, Any]:
    """The keys as a JWKS."""
    return {"keys": [public_jwk(key) for key in jwks.values()]}
