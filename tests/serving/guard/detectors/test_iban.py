"""IBANs however they are written, always as a whole."""

from __future__ import annotations

import pytest

from tests.serving.guard.detectors.cleaned import cleaned, marked

IBANS = [
    "«DE89370400440532013000»",
    "«de89370400440532013000»",
    "«De89 3704 0044 0532 0130 00»",
    "«de89 3704 0044 0532 0130 00» and more",
    "DE «89 3704 0044 0532 0130 00»",
    "«DE89  3704  0044  0532  0130  00»",
    "«DE89-3704-0044-0532-0130-00»",
    "«DE89.3704.0044.0532.0130.00»",
    "«DE89/3704/0044/0532/0130/00»",
    "«DE8937 04004405 320130 00»",
    "«DE89\t3704\t0044\t0532\t0130\t00»",
    "IBAN: D E «8 9 3 7 0 4 0 0 4 4 0 5 3 2 0 1 3 0 0 0»",
    "«GB29 NWBK 6016 1331 9268 19»",
    "«gb29 nwbk 6016 1331 9268 19»",
    "«gb29nwbk60161331926819»",
    "«NL91 ABNA 0417 1643 00»",
    "«fr14 2004 1010 0505 0001 3m02 606»",
    "«CH93 0076 2011 6238 5295 7»",
    "«Mt84 malt 0110 0001 2345 mtlc ast0 01s»",
    "«NO93 8601 1117 947»",
    '{"iban": "«at611904300234573201»"}',
]

NOT_IBANS = [
    "DE89370400440532013001",
    "de89 3704 0044 0532 0130 01",
    "DE89370400440532013000x",
    "xDE89370400440532013000",
    "GB29 NWBK 6016",
    "at 12 months and 3 days of 2024",
    "be 12 people who came",
    "is 22 years old",
    "DE89 3704 0044",
    "sha de89370400440532013000aabbccddeeff0011",
]


@pytest.mark.parametrize("text", IBANS)
def test_numbers_are_masked_as_a_whole(text: str) -> None:
    plain, masked = marked(text, "IBAN")

    assert cleaned(plain) == masked


@pytest.mark.parametrize("text", NOT_IBANS)
def test_others_stay(text: str) -> None:
    assert cleaned(f"See {text}.") == f"See {text}."
