"""Names and addresses: the shipped model finds common ones, and no cutting changes what is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.guard import MAX_HELD, Guard, GuardSettings
from serving.guard.ner import PersonNames, StreetAddresses
from serving.guard.ner.model import NUM_JOINT_ROWS, NUM_ROWS, WIDTH, Model, read, shipped, write
from serving.guard.ner.tagged_text import TaggedText
from serving.guard.ner.words import MAX_WORD, SIDE, rows, split
from tests.support.growth import assert_linear

GUARD = Guard(GuardSettings.model_validate({"output": {"person_name": "mask", "street_address": "mask"}}))

NAMED = [
    ("My name is {}.", "Maria Fernandez", "PERSON_NAME"),
    ("Dear {},", "Thomas", "PERSON_NAME"),
    ("Please add Mrs. {} to my account.", "Katarzyna Nowak", "PERSON_NAME"),
    ("The film was directed by {} in 1999.", "Jean-Pierre Dubois", "PERSON_NAME"),
    ("Regards,\n{}", "Björn Ångström", "PERSON_NAME"),
    ("Ship it to {}", "221 Baker Street, London, NW 10400", "STREET_ADDRESS"),
    ("She lives at {}.", "Hauptstraße 12, 10115 Berlin", "STREET_ADDRESS"),
    ("Ship it to\n\n{}", "46 Hill Road\n Suite 501\n Riisa\n\n Estonia 62488", "STREET_ADDRESS"),
    ("My address is {}", "742 Evergreen Terrace\nApt. 12\nSpringfield, OR 97477", "STREET_ADDRESS"),
]

ORDINARY = [
    "The gateway reads signet.yaml and listens on port 8000.",
    "On Monday the European Union published the report in Brussels.",
    "Python 3.11 was released in October 2022.",
    "for row in rows: print(row.Name, row.Street)",
    "See Chapter 12, Fair Queueing, for how requests wait.",
]

PIECES = [
    *(text.format(value) for text, value, _ in NAMED),
    *ORDINARY,
    *("Ann", "Ann Lee", "12 Main St", " ", "  ", "     ", "\n", ", ", ".", "-", "'"),
    *("x" * MAX_WORD, "x" * 40, "1" * 30, "é", "汉", "van der "),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value", "entity"), NAMED)
def test_common_names_and_addresses_are_found_in_every_cutting(text: str, value: str, entity: str) -> None:
    whole = text.format(value)
    expected = text.format(f"[{entity}]")

    assert GUARD.clean_text(whole)[0] == expected
    for size in (1, 2, 3, 7):
        cleaner = GUARD.stream()
        assert (
            "".join(cleaner.feed(whole[at : at + size]) for at in range(0, len(whole), size)) + cleaner.finish()
            == expected
        )


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    assert GUARD.clean_text(text)[0] == text


def test_names_pass_by_default() -> None:
    assert Guard(GuardSettings()).clean_text("My name is Maria Fernandez.")[0] == "My name is Maria Fernandez."


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join), st.integers(1, 9))
def test_every_cutting_gives_what_the_whole_gives(text: str, size: int) -> None:
    cleaner = GUARD.stream()
    out = []
    for at in range(0, len(text), size):
        out.append(cleaner.feed(text[at : at + size]))
        assert cleaner.held <= MAX_HELD

    assert "".join(out) + cleaner.finish() == GUARD.clean_text(text)[0]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), max_size=9).map("".join),
    st.floats(0, 1),
    st.sampled_from([PersonNames(), StreetAddresses()]),
)
def test_what_is_settled_does_not_change(text: str, share: float, detector: PersonNames | StreetAddresses) -> None:
    known = text[: int(len(text) * share)]

    spans, settled = detector.scan(known, 0, False)

    assert spans == [span for span in detector.scan(text, 0, True)[0] if span.start < settled]
    assert len(known) - settled <= MAX_HELD


def test_nothing_counts_beyond_a_word_that_is_too_long_to_be_read() -> None:
    text = "Bob Lee " + "y" * (MAX_WORD + 1) + " Ann"
    barred = TaggedText(shipped(), text, final=True)
    alone = TaggedText(shipped(), "y" * (MAX_WORD + 1) + " Ann", final=True)

    assert barred.tag(len(barred.words) - 1) == alone.tag(1)


def toy_model(name: int = 1) -> Model:
    """Knows one name, `Ann`, and nothing else."""
    table = bytearray(NUM_ROWS * WIDTH)
    table[rows("Ann", NUM_ROWS)[1] * WIDTH + 2 * SIDE] = name
    return Model(bytes(table), bytes(NUM_JOINT_ROWS * 2), (0, 0))


def test_words_that_follow_each_other_with_a_tag_are_one_span() -> None:
    names = PersonNames(toy_model)

    assert [(span.start, span.end) for span in names.scan("Hi Ann Ann, and Ann-Ann or ann", 0, True)[0]] == [
        (3, 10),
        (16, 23),
    ]


def test_a_model_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = bytes(range(256)) * (NUM_ROWS * WIDTH // 256)
    write(tmp_path / "m.bin", table, bytes(NUM_JOINT_ROWS * 2), 0.5, (1.0, 2.0))

    model = read(tmp_path / "m.bin")

    assert model.lean == (2, 4)
    assert model.of_word("Ann") == Model(table, bytes(NUM_JOINT_ROWS * 2), (2, 4)).of_word("Ann")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(b"{}\nnonsense")

    with pytest.raises(ValueError, match="is not a model of names"):
        read(tmp_path / "m.bin")


def test_long_runs_are_barriers() -> None:
    assert [word.text for word in split("a " + "b" * 19 + " c      d\n12")] == ["a", "", "c", "", "d", "\n", "12"]


@pytest.mark.parametrize("pattern", ["Ann ", "a", "1", "Ann-", "12 Main St, ", "\n", "x" * 19 + " ", "    "], ids=ascii)
def test_time_grows_with_the_text(pattern: str) -> None:
    def clean(size: int) -> Callable[[], object]:
        text = (pattern * size)[:size]
        return lambda: GUARD.clean_text(text)

    assert_linear(clean, 4_000)
