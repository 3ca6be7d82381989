"""What a receipt costs the gateway: `python -m loadtests.receipt_cost [--rounds 15]`.

CPU of the whole of it: question hashed, text hashed as it comes, signed, written as a header, for answers of several
shapes; beside each the signature alone in the same round. Prints the table of docs/benchmarks/provenance.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from loadtests.client import chat_body
from serving.provenance.receipts import (
    Answer,
    Passage,
    Receipt,
    ReceiptIssuer,
    ReceiptKeys,
    check_signature,
    check_text,
)

CALLS = 400
# Question and answer in characters, pieces that the answer comes in.
SHAPES = {
    "short chat, whole": (300, 400, 1),
    "short chat, 64 pieces": (300, 400, 64),
    "long question, whole": (32_000, 400, 1),
    "long answer, 4,000 pieces": (300, 20_000, 4_000),
}
_ANSWER = Answer(
    endpoint="chat",
    model="smollm2-135m-instruct",
    policy="ab" * 32,
    mark="gumbel",
    prompt_tokens=120,
    completion_tokens=64,
    finish_reason="stop",
    mark_key="mk1-0123456789abcdef0123",
    manifest="sha256:" + "cd" * 32,
)


def receipts_of(issuer: ReceiptIssuer, question: int, answer: int, pieces: int) -> Callable[[], str]:
    """What the gateway does for one answer."""
    body = chat_body(64, prompt="q" * question)
    texts = ["a" * (answer // pieces)] * pieces

    def issue() -> str:
        passage = Passage(body)
        text = passage.text(0)
        for piece in texts:
            text.add(piece)
        return issuer.issue("req_0123456789abcdef01234567", "acme", _ANSWER, passage).opened

    return issue


def cpu_us(work: Callable[[], object]) -> float:
    """CPU microseconds a call."""
    started = time.process_time()
    for _ in range(CALLS):
        work()
    return (time.process_time() - started) / CALLS * 1e6


def measure(rounds: int) -> list[tuple[str, float, float]]:
    """For each shape: microseconds of a receipt and of its signature alone, the median of the rounds."""
    with tempfile.TemporaryDirectory() as folder:
        issuer = ReceiptIssuer(ReceiptKeys.open(Path(folder) / "keys.json", create=True), "https://ai.example.org")
    signer, _ = issuer.keys.current()
    found = []
    for name, shape in SHAPES.items():
        issue = receipts_of(issuer, *shape)
        pairs = [(cpu_us(issue), cpu_us(lambda: signer.sign(b"x" * 650))) for _ in range(rounds)]
        found.append((name, median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)))
    return found


def verification_us(rounds: int) -> float:
    """CPU microseconds to check signature and text."""
    with tempfile.TemporaryDirectory() as folder:
        issuer = ReceiptIssuer(ReceiptKeys.open(Path(folder) / "keys.json", create=True), "https://ai.example.org")
        keys = issuer.keys.public()
    opened = receipts_of(issuer, 300, 400, 1)()

    def check() -> None:
        receipt = Receipt.parse(opened)
        statement, _ = check_signature(receipt, keys)
        assert statement is not None
        assert check_text(statement, receipt.salts, "a" * 400).holds

    return median(cpu_us(check) for _ in range(rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print("| answer | CPU µs a receipt | of it the signature | besides it |\n|---|---|---|---|")
    for name, whole, signature in measure(rounds):
        print(f"| {name} | {whole:.0f} | {signature:.0f} | {whole - signature:.0f} |")
    print(f"\nA check of signature and text: {verification_us(rounds):.0f} µs.")


if __name__ == "__main__":
    main()
