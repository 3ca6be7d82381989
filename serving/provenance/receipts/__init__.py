"""Receipts: a compact signed statement about every answer.

In come what the gateway knows of an answer and the digests of its texts; out goes a record for the ledger, and from it,
when somebody wants it, a JWS that anyone can check offline with the issuer's public keys, down to the data of the model
that answered. A part of the leaf `serving.provenance`.
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
from serving.provenance.receipts.record import ReceiptIssuer, RecordedReceipt, are_alike, read_record, receipt_of
from serving.provenance.receipts.statement import AnswerClaims, NoStatement, Receipt, Statement

__all__ = [
    "AnswerClaims",
    "AnswerDigests",
    "Check",
    "NoStatement",
    "NotSigned",
    "Receipt",
    "ReceiptIssuer",
    "ReceiptKey",
    "ReceiptKeys",
    "ReceiptKeysError",
    "RecordedReceipt",
    "RunningDigest",
    "Statement",
    "are_alike",
    "check_prompt",
    "check_signature",
    "check_tenant",
    "check_text",
    "contradiction",
    "kid_of",
    "read_jwks",
    "read_record",
    "receipt_of",
    "verified",
    "verify_signature",
]
