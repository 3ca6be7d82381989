"""What a receipt costs the gateway: `python -m loadtests.benchmarks.receipt_cost [--rounds 15]`.

CPU for answers of several shapes: question hashed and text hashed as it comes; at the answer's end the rest hashed,
stated and sealed for the ledger; and, where somebody wants the receipt, signed and written as a header. Prints the
table of docs/benchmarks/provenance.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from loadtests.tools.client import chat_body
from serving.provenance.receipts import (
    AnswerClaims,
    AnswerDigests,
    Receipt,
    ReceiptIssuer,
    ReceiptKeys,
    RecordedReceipt,
    check_signature,
    check_text,
)
from training.studies.sections import table_head

CALLS = 400
# Question and answer in characters, pieces that the answer comes in.
SHAPES = {
    "short chat, whole": (300, 400, 1),
    "short chat, 64 pieces": (300, 400, 64),
    "long question, whole": (32_000, 400, 1),
    "long answer, whole": (300, 20_000, 1),
    "long answer, 4,000 pieces": (300, 20_000, 4_000),
}
_ANSWER = AnswerClaims(
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
    """What the gateway does for one answer whose receipt is wanted, in all."""
    begin, end = stages(issuer, question, answer, pieces)
    return lambda: end(begin()).sign().opened


def stages(
    issuer: ReceiptIssuer, question: int, answer: int, pieces: int
) -> tuple[Callable[[], AnswerDigests], Callable[[AnswerDigests], RecordedReceipt]]:
    """What it does while question and answer pass by, and what is left to do at the answer's end."""
    body = chat_body(64, prompt="q" * question)
    texts = ["a" * (answer // pieces)] * pieces

    def begin() -> AnswerDigests:
        digests = AnswerDigests(body)
        text = digests.text(0)
        for piece in texts:
            text.add(piece)
        return digests

    return begin, lambda digests: issuer.record("req_0123456789abcdef01234567", "acme", _ANSWER, digests)


def cpu_us(work: Callable[[], object]) -> float:
    """CPU microseconds a call."""
    started = time.process_time()
    for _ in range(CALLS):
        work()
    return (time.process_time() - started) / CALLS * 1e6


def measure(rounds: int) -> list[tuple[str, float, float, float]]:
    """For each shape: microseconds of what passes by, of the end, and of signing, the median of the rounds."""
    with tempfile.TemporaryDirectory() as folder:
        issuer = ReceiptIssuer(ReceiptKeys.open(Path(folder) / "keys.json", create=True), "https://ai.example.org")
    found = []
    for name, shape in SHAPES.items():
        seen = [_round(*stages(issuer, *shape)) for _ in range(rounds)]
        passing, end, signature = (median(column) for column in zip(*seen, strict=True))
        found.append((name, passing, end, signature))
    return found


def _round(
    begin: Callable[[], AnswerDigests], end: Callable[[AnswerDigests], RecordedReceipt]
) -> tuple[float, float, float]:
    digests = [begin() for _ in range(CALLS)]  # what is left in each to be hashed, the end hashes once
    recorded = end(begin())
    return cpu_us(begin), cpu_us(lambda: end(digests.pop())), cpu_us(lambda: recorded.sign().opened)


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
    columns = "answer", "CPU µs while it passes", "at its end", "in all", "signed, where it is wanted"
    print("\n".join(table_head(*columns)))
    for name, passing, end, signature in measure(rounds):
        print(f"| {name} | {passing:.0f} | {end:.0f} | {passing + end:.0f} | {signature:.0f} |")
    print(f"\nA check of signature and text: {verification_us(rounds):.0f} µs.")


if __name__ == "__main__":
    main()
