"""Postal codes and domain names, which are off by default."""

from __future__ import annotations

import pytest

from serving.guard import StreamCleaner
from serving.guard.detectors import DomainNames, PostalCodes
from tests.serving.guard.detectors.cleaned import cleaned, marked
from tests.support.cuttings import assert_cutting_is_all_the_same

CODES = [
    "London «SW1A 1AA», England",
    "«EC1A1BB»",
    "Toronto «M5V 2T6»",
    "«1011 AB» Amsterdam",
    "Boston, MA «02110»",
    "Boston, MA «02110-1301» USA",
    "ZIP: «90210»",
    "postal code is «10115»",
    "PLZ «10115» Berlin",
    "code postal: «75001»",
]
NAMES = [
    "see «www.example.com»/x",
    "«example.co.uk».",
    "https://«docs.example.org»:8080/a",
    "«bücher.de» and «xn--bcher-kva.de»",
]
OTHERS = [
    "in 12345 rows",
    "port 8080",
    "a1b2c3",
    "foo.bar()",
    "x.y = 1",
    "readme.txt",
    "1.2.3",
    "joe@mail",
    "e.g. this",
]


@pytest.mark.parametrize(("texts", "entity"), [(CODES, "POSTAL_CODE"), (NAMES, "DOMAIN_NAME")])
def test_they_are_masked_when_switched_on(texts: list[str], entity: str) -> None:
    for text in texts:
        plain, masked = marked(text, entity)

        assert assert_cutting_is_all_the_same(_cleaner, plain) == masked
        assert cleaned(plain) == plain


@pytest.mark.parametrize("text", OTHERS)
def test_others_stay(text: str) -> None:
    assert assert_cutting_is_all_the_same(_cleaner, f"See {text}, and") == f"See {text}, and"


def _cleaner() -> StreamCleaner:
    return StreamCleaner((DomainNames(), PostalCodes()))
