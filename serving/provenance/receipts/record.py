"""What the ledger keeps of a receipt until somebody wants it, and how that becomes a receipt.

A *record* is the statement of a receipt, sealed under a secret of the issuer's (`jws.Sealer`) when its answer ends. It
is signed when the receipt is wanted, and only if its seal holds: who can write to the database and has no key gets no
signature for what they wrote. Records of earlier versions of Signet are signed receipts themselves.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import msgspec

from serving.provenance.receipts.digests import MAX_TEXTS, AnswerDigests, Salts, salted, text_digest
from serving.provenance.receipts.jws import NotSigned, Signer, is_sealed, kid_of, unverified, verify
from serving.provenance.receipts.keys import RECEIPT_TYPE, ReceiptKey, ReceiptKeys
from serving.provenance.receipts.statement import AnswerClaims, NoStatement, Receipt, Statement, read_statement

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class RecordedReceipt:
    """A receipt that nobody has asked for yet; `record` is for the ledger."""

    __slots__ = ("_payload", "_salts", "_signer", "record")

    def __init__(self, record: str, payload: bytes, salts: Salts, signer: Signer) -> None:
        self.record = record
        self._payload = payload
        self._salts = salts
        self._signer = signer

    def sign(self) -> Receipt:
        """To be shown only when the record is in the ledger."""
        return Receipt(self._signer.sign(self._payload), self._salts._asdict())


class ReceiptIssuer:
    """Makes statements, under the key that is current at the moment.

    Args:
        issuer: who signs, as receipts say it.
        deliver_to: tenants, and ids of keys, that get every receipt with its answer; `*`: all.
    """

    def __init__(self, keys: ReceiptKeys, issuer: str, deliver_to: Collection[str] = ()) -> None:
        self.keys = keys
        self.issuer = issuer
        self._deliver_to = frozenset(deliver_to)
        self._deliver_to_all = "*" in self._deliver_to

    def delivers(self, tenant: str, key_id: str) -> bool:
        """Whether these get receipts with answers unless they say otherwise."""
        return self._deliver_to_all or not self._deliver_to.isdisjoint((tenant, key_id))

    def record(self, request_id: str, tenant: str, answer: AnswerClaims, digests: AnswerDigests) -> RecordedReceipt:
        """State what is known of one complete answer."""
        signer, secret, sealer = self.keys.current()
        salts = Salts.derive(secret, request_id)
        texts = digests.texts()
        named = {name: salted(salts.answer, digest) for name, digest in list(texts.items())[:MAX_TEXTS]}
        statement = Statement(
            *msgspec.structs.astuple(answer),
            iss=self.issuer,
            jti=request_id,
            iat=int(time.time()),
            tenant=salted(salts.tenant, text_digest(tenant)),
            prompt=salted(salts.prompt, digests.question),
            texts=named,
            texts_left_out=max(0, len(texts) - MAX_TEXTS),
        )
        payload = _encode(statement)
        return RecordedReceipt(sealer.seal(payload), payload, salts, signer)


def receipt_of(record: str, keys: ReceiptKeys, request_id: str) -> Receipt:
    """The receipt of a request, signed now; one of an earlier version comes as it was signed then.

    Raises:
        NotSigned, NoStatement: the record is not as it was made, is another request's, or was made under a key that
            is not at hand.
    """
    key = _key_of(record, keys)
    salts = _salts(key, request_id)
    if not is_sealed(record):
        return Receipt(record, salts)
    payload = _opened(record, key)
    if read_statement(payload).jti != request_id:
        raise NotSigned("speaks of another request")
    signer = keys.current().signer
    if signer.kid != kid_of(record):
        # Not from the statement: a later version may have written claims that this one does not know.
        payload = _encode({**_decode(payload), "recorded_by": kid_of(record)})
    return Receipt(signer.sign(payload), salts)


def read_record(record: str, keys: ReceiptKeys, request_id: str) -> tuple[Statement, dict[str, bytes]]:
    """What was stated of a request when its answer ended, and the salts by their names.

    Raises:
        NotSigned, NoStatement: the record is not as it was made, or was made under a key that is not at hand.
    """
    key = _key_of(record, keys)
    if is_sealed(record):
        payload = _opened(record, key)
    else:
        payload, _ = verify(record, {} if key is None else {key.kid: key.public}, RECEIPT_TYPE)
    return read_statement(payload), _salts(key, request_id)


def are_alike(one: str, other: str) -> bool:
    """Whether two records or receipts state the same, whoever signed them and when; nothing is verified."""
    try:
        first, second = (
            msgspec.structs.replace(read_statement(unverified(token)), recorded_by="") for token in (one, other)
        )
    except (ValueError, NoStatement):
        return False
    return first == second


def _salts(key: ReceiptKey | None, request_id: str) -> dict[str, bytes]:
    return {} if key is None else Salts.derive(key.salt_secret, request_id)._asdict()


def _opened(record: str, key: ReceiptKey | None) -> bytes:
    if key is None:
        raise NotSigned("was recorded under a key that is not at hand")
    return key.sealer.open(record)


def _key_of(record: str, keys: ReceiptKeys) -> ReceiptKey | None:
    try:
        return keys.get(kid_of(record))
    except ValueError:
        raise NotSigned("is not a JWS in compact form") from None
