"""Signatures as the RFCs have them, and as another implementation reads them."""

from __future__ import annotations

import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from serving.provenance.receipts.jws import (
    NotSigned,
    Signer,
    b64,
    describe,
    public_jwk,
    read_jwks,
    thumbprint,
    unb64,
    verify,
)

# RFC 8037, appendix A.
PRIVATE = Ed25519PrivateKey.from_private_bytes(unb64("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"))
PUBLIC = PRIVATE.public_key()
X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
TOKEN = (
    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
    "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)
TYPE = "test+jwt"


def test_the_public_key_and_its_thumbprint_are_the_rfcs() -> None:
    assert public_jwk(PUBLIC) == {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": X,
        "kid": THUMBPRINT,
        "alg": "EdDSA",
        "use": "sig",
    }
    assert thumbprint(PUBLIC) == THUMBPRINT


def test_the_rfcs_signature_is_verified_and_made_again() -> None:
    payload, _ = verify(TOKEN, {"": PUBLIC}, "")

    assert payload == b"Example of Ed25519 signing"
    head, body, signature = TOKEN.split(".")
    assert b64(PRIVATE.sign(f"{head}.{body}".encode())) == signature


def test_another_implementation_reads_what_is_signed() -> None:
    token = Signer(PRIVATE, TYPE).sign(json.dumps({"iss": "signet"}).encode())
    [key] = jwt.PyJWKSet.from_dict(describe({THUMBPRINT: PUBLIC})).keys

    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "kid": THUMBPRINT, "typ": TYPE}
    assert jwt.decode(token, key, algorithms=["EdDSA"]) == {"iss": "signet"}


def test_what_another_implementation_signs_is_read() -> None:
    token = jwt.encode({"iss": "signet"}, PRIVATE, algorithm="EdDSA", headers={"kid": THUMBPRINT, "typ": TYPE})

    payload, kid = verify(token, {THUMBPRINT: PUBLIC}, TYPE)

    assert (json.loads(payload), kid) == ({"iss": "signet"}, THUMBPRINT)


def head(**fields: object) -> str:
    return b64(json.dumps({"alg": "EdDSA", "kid": THUMBPRINT, "typ": TYPE, **fields}).encode())


def signed_under(header: str) -> str:
    message = f"{header}.{b64(b'{}')}"
    return f"{message}.{b64(PRIVATE.sign(message.encode()))}"


def another_spelling(token: str) -> str:
    """The last character of 64 bytes in base64 carries two bits that a careless decoder ignores."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("", "compact form"),
        ("a.b", "compact form"),
        (f"{head()}.{b64(b'{}')}.!!!", "compact form"),
        (f"{b64(b'no json')}.e30.AAAA", "compact form"),
        (signed_under(head(alg="none")), "signed as EdDSA"),
        (signed_under(head(alg="HS256")), "signed as EdDSA"),
        (signed_under(head(crit=["exp"])), "signed as EdDSA"),
        (signed_under(head(typ="at+jwt")), "another type"),
        (signed_under(head(kid="other")), "not among the issuer's"),
        (f"{head()}.{b64(b'{}')}.{b64(bytes(64))}", "changed after it was signed"),
        (signed_under(head()) + "AA", "changed after it was signed"),
        (another_spelling(signed_under(head())), "compact form"),
    ],
)
def test_what_is_not_signed_as_a_receipt_is_refused(token: str, why: str) -> None:
    with pytest.raises(NotSigned, match=why):
        verify(token, {THUMBPRINT: PUBLIC}, TYPE)


def test_a_key_set_is_read_by_thumbprint_whatever_it_calls_its_keys() -> None:
    content = {
        "keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}, {"kty": "OKP", "crv": "Ed25519", "x": X, "kid": "mine"}]
    }

    assert list(read_jwks(json.dumps(content).encode())) == [THUMBPRINT]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"keys": 1}', b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}']
)
def test_what_is_no_key_set_is_said(content: bytes) -> None:
    with pytest.raises(ValueError, match="no set of JSON Web Keys"):
        read_jwks(content)
