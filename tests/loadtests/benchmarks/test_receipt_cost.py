from __future__ import annotations

from pathlib import Path

from loadtests.benchmarks.receipt_cost import SHAPES, measure, receipts_of
from serving.provenance.receipts import Receipt, ReceiptIssuer, ReceiptKeys, check_signature, check_text


def test_what_is_measured_is_a_receipt_that_verifies(tmp_path: Path) -> None:
    issuer = ReceiptIssuer(ReceiptKeys.open(tmp_path / "keys.json", create=True), "us")

    receipt = Receipt.parse(receipts_of(issuer, 300, 400, 64)())

    statement, _ = check_signature(receipt, issuer.keys.public())
    assert statement is not None
    assert check_text(statement, receipt.salts, "a" * (400 // 64 * 64)).holds


def test_every_shape_is_measured_beside_its_signature() -> None:
    found = measure(rounds=1)

    assert [name for name, *_ in found] == list(SHAPES)
    for name, passing, end, signature in found:
        assert min(passing, end, signature) > 0, name
