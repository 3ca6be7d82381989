"""What no reader sees goes, what shapes visible text stays."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.guard.text.visible import VisibleText

# Format characters that are seen: the signs before Arabic, Syriac and Kaithi numbers.
SEEN_FORMAT = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
ALPHABET = [
    *"a1\u0628\u0627\u0915\u094d\u200c\u200d\ufe0e\ufe0f\u20e3#\U0001f469\u2764\U0001f3fd\u200b\x1b[]m;\\\x07\x9b()B8 ",
    *(".", "\u05d0", "\u200e", "\u200f", "\u061c", "\u1820", "\u180b", "\u0e01", "\u17c9", ENGLAND, *ENGLAND),
]
TEXTS = st.lists(st.sampled_from(ALPHABET)).map("".join)


def visible(text: str) -> str:
    stripper = VisibleText()
    return stripper.feed(text) + stripper.finish()


def test_every_format_and_control_character_is_removed_by_class() -> None:
    left = {
        code
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Cf", "Cc") and visible(f"a{chr(code)}\u6c49") != "a\u6c49"
    }

    assert left == SEEN_FORMAT | {ord("\t"), ord("\n"), ord("\r")}


@pytest.mark.parametrize(
    "ranges",
    [
        pytest.param([(0xFE00, 0xFE0F), (0xE0100, 0xE01EF), (0x180B, 0x180F)], id="variation selectors"),
        pytest.param([(0xE0000, 0xE0FFF)], id="tags and the rest of their plane's ignorables"),
        pytest.param(
            [(0xFDD0, 0xFDEF), (0xFFFE, 0xFFFF), (0x1FFFE, 0x1FFFF), (0x10FFFE, 0x10FFFF)], id="noncharacters"
        ),
        pytest.param([(0x115F, 0x1160), (0x3164, 0x3164), (0xFFA0, 0xFFA0), (0x34F, 0x34F)], id="fillers"),
    ],
)
def test_other_invisible_characters_are_removed(ranges: list[tuple[int, int]]) -> None:
    assert {visible(f"a{chr(code)}b") for first, last in ranges for code in range(first, last + 1)} == {"ab"}


def test_letters_marks_numbers_and_symbols_stay() -> None:
    kept = "".join(
        chr(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code))[0] in "LNPSZ" and code not in (0x115F, 0x1160, 0x3164, 0xFFA0)
    )

    assert visible(kept) == kept


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f469\u200d\U0001f469\u200d\U0001f467",
        "\U0001f3f3\ufe0f\u200d\U0001f308",
        "\U0001f9d1\U0001f3fd\u200d\U0001f4bb",
        "\u2764\ufe0f",
        "1\ufe0f\u20e3",
        "\U0001f1e9\U0001f1ea",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u0915\u094d\u200d\u0937",
        pytest.param(ENGLAND, id="flag of England"),
        pytest.param("\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", id="flag of Scotland"),
        pytest.param("\U0001f3f4\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f", id="flag of Wales"),
        pytest.param("\U0001f3f4\u200d\u2620\ufe0f", id="flag of pirates"),
        pytest.param("\u200f\u05e9\u05dc\u05d5\u05dd\u200e", id="Hebrew between marks"),
        pytest.param("\u05e9\u05dc\u05d5\u05dd!\u200f", id="Hebrew with its exclamation mark"),
        pytest.param("\u05db\u05d5\u05ea\u05e8 C++\u200e</b>", id="Hebrew with a Latin word before a tag"),
        pytest.param("\u061c\u0633\u0644\u0627\u0645", id="Arabic behind its mark"),
        pytest.param("\u0645\u06cc\u200c\u0634\u0648\u062f", id="Persian"),
        pytest.param("\u06f1\u06f3\u06f8\u06f0 \u0647\u200d.", id="Persian heh by itself"),
        pytest.param("\u0db6\u0dd4\u0daf\u0dca\u200d\u0db0", id="Sinhala"),
        pytest.param("\u0d85\u0db8\u0dca\u200d\u0db8", id="Sinhala, touching"),
        pytest.param("\u0d05\u0d35\u0d28\u0d4d\u200d", id="Malayalam chillu at the end of a word"),
        pytest.param("\u09b0\u200d\u09cd\u09af\u09be\u09ac", id="Bengali"),
        pytest.param("\u0915\u094d\u200c\u0937", id="Hindi with a virama that shows"),
        pytest.param("\u0930\u094d\u200d\u092f\u093e", id="Marathi eyelash"),
        pytest.param("\u0c15\u0c4d\u200c\u0c37", id="Telugu"),
        pytest.param("\u1797\u17b6\u179f\u17b6\u200b\u1781\u17d2\u1798\u17c2\u179a", id="Khmer"),
        pytest.param("\u0e44\u0e17\u0e22\u200b\u0e14\u0e35", id="Thai"),
        pytest.param("\u182a\u180b\u1820", id="Mongolian"),
    ],
)
def test_what_shapes_the_text_that_is_seen_stays(text: str) -> None:
    assert visible(f"so {text} it is") == f"so {text} it is"
    assert in_pieces(f"so {text} it is") == f"so {text} it is"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\u200db", "ab"),
        ("1\u200d2", "12"),
        ("\u0661\u200d\u0662", "\u0661\u0662"),
        ("\U0001f469\u200da", "\U0001f469a"),
        ("a\ufe0f", "a"),
        ("1\ufe0f2", "12"),
        ("\U0001f170\u200b\u200d\U0001f170", "\U0001f170\U0001f170"),
        ("\U0001f130\u200d\U0001f131", "\U0001f130\U0001f131"),
        ("a\u200eb", "ab"),
        ("4111\u200e1111", "41111111"),
        ("\u05d0 5\u200e5", "\u05d0 55"),
        ("\u05d0(\u200e555) 1", "\u05d0(555) 1"),
        ("\u0661\u200f\u0662", "\u0661\u0662"),
        ("\u05d0\u200e\u200f\u200e\u05d1", "\u05d0\u05d1"),
        ("\u0628\u200c\u200d\u200c\u0628", "\u0628\u0628"),
        ("\u0628\u200c ", "\u0628 "),
        ("\u0915\u200d\u0937", "\u0915\u0937"),
        ("\u094d\u200d\u200c\u0937", "\u094d\u0937"),
        ("a\u200bb \u0e01\u200b1", "ab \u0e011"),
        ("\u1820\u180b\u180c", "\u1820"),
        ("a\U000e0067\U000e007f", "a"),
        ("\U0001f3f4\U000e0075\U000e0073\U000e0074\U000e0078\U000e007f", "\U0001f3f4"),
        ("\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067", "\U0001f3f4"),
        (f"{ENGLAND}\U000e0061\U000e0062", ENGLAND),
    ],
)
def test_what_could_hide_something_goes(text: str, expected: str) -> None:
    assert visible(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[38;2;1;2;3mred", "red"),
        ("\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\", "click"),
        ("\x1b]0;title\x07text", "text"),
        ("\x9b2Jtext", "text"),
        ("\x1b(Btext\x1bM", "text"),
        ("\x1b]never ends", "]never ends"),
        ("\x1b[\x1b[31m31m", "[31m"),
        ("\x1b", ""),
    ],
)
def test_terminal_sequences_are_removed(text: str, expected: str) -> None:
    assert visible(text) == expected


def test_lone_surrogates_are_replaced() -> None:
    assert visible("a\ud800b\udfffc") == "a\ufffdb\ufffdc"


def in_pieces(text: str) -> str:
    stripper = VisibleText()
    return "".join(map(stripper.feed, text)) + stripper.finish()


@given(TEXTS, st.lists(st.integers(1, 4)))
def test_every_cutting_gives_what_the_whole_gives(text: str, sizes: list[int]) -> None:
    stripper = VisibleText()
    out, rest = "", text
    for size in sizes:
        out += stripper.feed(rest[:size])
        rest = rest[size:]
    out += stripper.feed(rest) + stripper.finish()

    assert out == visible(text)


@given(TEXTS)
def test_stripping_twice_changes_nothing(text: str) -> None:
    assert visible(visible(text)) == visible(text)
