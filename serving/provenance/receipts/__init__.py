"""Receipts: a compact signed statement about every answer.

In come what the gateway knows of an answer and the digests of its texts; out goes a JWS that anyone can check offline
with the issuer's public keys, down to the data of the model that answered. A part of the leaf `serving.provenance`.
"""

from serving.provenance.receipts.check import (
    Check,
    check_prompt,
    check_signature,
    check_tenant,
    check_text,
    contradiction,
    verified,
)
from serving.provenance.receipts.digests import AnswerDigests, RunningDigest
from serving.provenance.receipts.jws import NotSigned, kid_of, read_jwks
from serving.provenance.receipts.jws import verify as verify_signature
from serving.provenance.receipts.keys import ReceiptKey, ReceiptKeys, ReceiptKeysError
from serving.provenance.receipts.statement import AnswerClaims, Receipt, ReceiptIssuer, Statement

__all__ = [
    "AnswerClaims",
    "AnswerDigests",
    "Check",
    "NotSigned",
    "Receipt",
    "ReceiptIssuer",
    "ReceiptKey",
    "ReceiptKeys",
    "ReceiptKeysError",
    "RunningDigest",
    "Statement",
    "check_prompt",
    "check_signature",
    "check_tenant",
    "check_text",
    "contradiction",
    "kid_of",
    "read_jwks",
    "verified",
    "verify_signature",
]
