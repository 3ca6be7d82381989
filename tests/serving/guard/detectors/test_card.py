"""Cards by issuer, grouping and what stands around; other numbers of such lengths stay."""

from __future__ import annotations

import random

import pytest

from serving.guard.detectors.checksums import luhn
from tests.serving.guard.detectors.cleaned import cleaned, marked

CARDS = [
    "Pay with «4111111111111111» please.",
    "Pay with «4111 1111 1111 1111» please.",
    "Pay with «5500-0000-0000-0004», thanks",
    "My Amex: «3782 822463 10005»",
    "It is «3056 930902 5904».",
    "It is «6011000990139424»!",
    "It is «3530 1113 3330 0000».",
    "It is «6200 0000 0000 0005».",
    "«4111 1111 1111 1111» 12/27",
    "«4111111111111111»|12|2027|123",
    "Ann,«4111111111111111»,12/27",
    "«4111111111111111»,Ann",
    ";«4111111111111111»=27121010000?",
    "card number is «3782 8224 6310 005»",
    "card: «4111-1111 1111-1111»",
    "visa «4111  1111  1111  1111»",
    "What's your credit card? «3522235032377454»",
    "debit card 12: no, card «4111 1111 1111 1111» 123",
    "Kreditkarte «4111.1111.1111.1111»",
    "tarjeta: «5555555555554444»",
    '{"card": {"number": "«4111111111111111»"}}',
    '{"number": "«4111111111111111»"}',
    "cards: «4111111111111111», «5500000000000004» and «378282246310005»",
    "«4111111111111111»\n«5500000000000004»\n«6011111111111117»",
    "the card «6759649826438453» is Maestro",
    "card «060426070011»",
]

NOT_CARDS = [
    "SKU 4539-7498-6382-1223, bin A16",
    "serial no. 4539 7498 6382 1223",
    '{"text": "done\\nSKU 4539-7498-6382-1223"}',
    "1234 5678 4111 1111 1111 1111 9012 3456",
    "x 4111 1111 1111 1111 1234",
    "4111\t1111\t1111\t1111",
    "4111 1111 1111 1111\n4112 1111 1111 1111\n4113 1111 1111 1111",
    "00000010: 4111 1111 1111 1111 abcd ef01",
    "id=4111111111111111",
    "orderId: 4111111111111111",
    '"user_id": "4111111111111111"',
    '{"n": 4111111111111111}',
    "order 4111111111111111 was shipped",
    "order no. 4111111111111111",
    "tracking number 4111111111111111",
    "/items/4111111111111111?page=2",
    "https://x.com/a/status/4111111111111111",
    "arn:aws:iam::411111111111:role/x",
    "arn:aws:sns:eu-west-1:4111111111111111:topic",
    "411111111111.dkr.ecr.us-east-1.amazonaws.com",
    "550e8400-e29b-41d4-a716-411111111111",
    "0x4111111111111111",
    "0.4111111111111111",
    "4111111111111111.5",
    "4111111111111111-abc",
    "v4111111111111111",
    "12, 4111111111111111, 7",
    "12\t4111111111111111\t7",
    "1764150000123 4111111111111111",
    "4111111111111111\n4111111111111112\n4111111111111113",
    "4111111111111112",
    "4242 4242 4242 4243",
    "1,4111111111111111,3.5",
    "(1,NULL,4111111111111111);",
    "@4111111111111111",
    "#4111111111111111",
    "<@4111111111111111>",
    "9111 1111 1111 1111",
    "2019 2020 2021 2022",
    "KeyError: '4355838005993'",
]


@pytest.mark.parametrize("text", CARDS)
def test_cards_are_masked(text: str) -> None:
    plain, masked = marked(text, "CARD_NUMBER")

    assert cleaned(plain) == masked


@pytest.mark.parametrize("text", NOT_CARDS)
def test_other_numbers_stay(text: str) -> None:
    for framed in (text, f"See {text}\n", f"a\n{text}\nb"):
        assert cleaned(framed) == framed


def test_rows_and_columns_of_numbers_stay() -> None:
    rng = random.Random(11)

    def number(size: int) -> str:
        return "".join(rng.choices("0123456789", k=size))

    for gap in (" ", "  ", "\t", ", ", ",", ";", " | "):
        text = "\n".join(gap.join(number(4) for _ in range(rng.choice((4, 8, 10)))) for _ in range(60))
        assert cleaned(text) == text, gap
    for size in (13, 14, 15, 16, 18, 19):
        text = "\n".join(number(size) for _ in range(60))
        assert cleaned(text) == text, size


def test_a_column_of_cards_is_masked() -> None:
    rng = random.Random(12)
    cards = []
    while len(cards) < 20:
        number = "4" + "".join(rng.choices("0123456789", k=15))
        if luhn(number):
            cards.append(number)

    assert cleaned("\n".join(cards)) == "\n".join(["[CARD_NUMBER]"] * 20)
