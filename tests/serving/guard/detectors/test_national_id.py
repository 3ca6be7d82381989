"""National numbers: strong checks count, weak ones only where nothing says otherwise; thirteen digits need a cue."""

from __future__ import annotations

import random

import pytest

from tests.serving.guard.detectors.cleaned import cleaned, marked

NUMBERS = [
    "«078-05-1120»",
    "«078-05-1120», «219-09-9999»",
    "«078 05 1120»",
    "«AB123456C»",
    "«RSSMRA85T10A562S»",
    "«12345678Z»",
    "«X1234567L»",
    "«S1234567D»",
    "«123.456.789-09»",
    "«11.444.777/0001-61»",
    "«756.9217.0769.85»",
    "«811228-9874»",
    "«131052-308T»",
    "«1 85 05 78 006 084 91»",
    "«85073003328»",
    "identity number «8001015009087»",
    "SSN: «123456789»",
    "DNI «12345678 A»",
    "my BSN is «111222333»",
    "número de seguridad social «281234567840»",
    '{"text": "hello\\nSSN: «123456789»"}',
]

OTHERS = [
    "doi:10.1234/tckn.1234567",
    "doi:10.1016/tin-1234567",
    "com.example.ssn.123456789",
    "8001015009087",
    "1764150000123",
    "EAN 8001015009087",
    "order 12345678Z",
    "P/N AB123456C",
    "SKU S1234567D",
    "part no. X1234567L",
    "lot 811228-9874",
    "3, 85073003328, 7",
    "id: 85073003328",
    '{"n": 85073003328}',
    "078 05 1120 99 12",
    "12 078 05 1120",
    "20240115 T",
    "0x12345678Z",
    "sin(1234567)",
    "sin=304193536",
    "550e8400-e29b-41d4-a716-811228987400",
    "12345678Z-7",
    "a/85073003328",
]


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_of_persons_are_masked(text: str) -> None:
    plain, masked = marked(text, "NATIONAL_ID")

    assert cleaned(f"Ask Ann: {plain}, she said.") == f"Ask Ann: {masked}, she said."


@pytest.mark.parametrize("text", OTHERS)
def test_other_numbers_stay(text: str) -> None:
    assert cleaned(f"See {text}\n") == f"See {text}\n"


def test_times_in_milliseconds_stay() -> None:
    rng = random.Random(3)
    for _ in range(20):
        text = "\n".join(f"{rng.randrange(10**12, 2 * 10**12)} done" for _ in range(40))
        assert cleaned(text) == text
