"""Words and patterns: what they find, in time linear in the text, and the same for every cutting of a stream."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.guard import Guard, GuardSettings
from serving.guard.outcome import GuardReport
from serving.guard.policy.masking import Mask, MaskedAnswers, Masks
from serving.guard.policy.patterns import MAX_MASKED_CHARS, PatternError, Words, compile_pattern, compile_words

MASKS = [
    Mask("SECRET_NAME", Words(("falcon", "falcon nine", "Müller", "бомба"))),
    Mask("TICKET", Words((), (r"[A-Z]{2,5}-\d{1,6}", r"\bno\.? ?\d{2,4}\b", r"(?i)ref(?:erence)?:? x{1,3}y?"))),
    Mask("GROUPS", Words((), (r"(q)(r)",))),
    Mask("PAIR", Words((), (r"ab|abc|b(?:cd){0,2}", r"a.{0,3}z"))),
]
GUARD = Guard(GuardSettings())
OUTPUT = Masks(MASKS, streams=True)
PIECES = ["falcon", " ", "nine", "FAL", "con", "ab", "bc", "cd", "a", "z", "AB-", "12", "3", "no. 45", "\n"]
PIECES += ["ref", "erence", ": x", "xy", "Mueller", "Müller", "бомба", "бом", ".", "x", "ｆａｌｃｏｎ", "\u200b", "é"]


def in_pieces(pieces: list[str], masks: Masks = OUTPUT) -> str:
    stream = MaskedAnswers(GUARD, masks).stream()
    return "".join([*(stream.feed(piece) for piece in pieces), stream.finish()])


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14), st.data())
@example(["ab", "c", "d", "cd"], None)
def test_masked_streams_equal_masked_wholes(pieces: list[str], data: st.DataObject | None):
    text = "".join(pieces)
    whole = MaskedAnswers(GUARD, OUTPUT).clean_text(text)[0]

    assert in_pieces(pieces) == whole
    assert in_pieces(list(text)) == whole
    if data is not None and text:
        cuts = sorted(data.draw(st.sets(st.integers(1, len(text)), max_size=6)))
        assert in_pieces([text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]) == whole


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14))
def test_what_is_released_never_changes(pieces: list[str]):
    stream = MaskedAnswers(GUARD, OUTPUT).stream()
    released = ""
    whole = in_pieces(pieces)
    for piece in pieces:
        released += stream.feed(piece)
        assert whole.startswith(released)
        assert stream.held <= MAX_MASKED_CHARS + 768


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("the falcon flies", "the [SECRET_NAME] flies"),
        ("FALCON  nine, falcons", "[SECRET_NAME], falcons"),
        ("Ｆａｌｃｏｎ fa\u200blcon", "[SECRET_NAME] [SECRET_NAME]"),
        ("muller MÜLLER Müllerin", "[SECRET_NAME] [SECRET_NAME] Müllerin"),
        ("большая Бомба", "большая [SECRET_NAME]"),
        ("другое слово", "другое слово"),
        ("qr and ab", "[GROUPS] and [PAIR]"),
        ("see OPS-1234.", "see [TICKET]."),
    ],
)
def test_words_are_found_whole_in_any_case_and_dress(text: str, masked: str):
    assert in_pieces([text]) == masked


def test_prose_is_not_held_back():
    stream = MaskedAnswers(GUARD, Masks(MASKS[:1], streams=True)).stream()

    assert stream.feed("An ordinary sentence goes its way; ") == "An ordinary sentence goes its way; "
    assert stream.feed("the fal") == "the "
    assert stream.feed("low deer") == "fallow "


@pytest.mark.parametrize("pattern", [r"(a)\1", r"(?=a)b", r"(?<!a)b", "(a", "a*", "x{0,9}", "(?>a)b"])
def test_patterns_that_cannot_be_used_are_refused(pattern: str):
    with pytest.raises(PatternError):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", ["a+", "a.*b", "a{1,300}", "^a", "a$", r"\p{L}{1,3}x"])
def test_masks_of_streams_need_a_longest_match(pattern: str):
    compile_words(Words((), (pattern,)))
    with pytest.raises(PatternError):
        compile_words(Words((), (pattern,)), bounded=True)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)*b", "(a|a)*b", "(.*a){12}b", "(?:a?){30}a{30}b"])
def test_no_pattern_takes_more_than_linear_time(pattern: str):
    compiled = compile_pattern(f"x{pattern}")
    text = "x" + "a" * 50_000 + "!"
    started = time.thread_time()
    compiled.search(text)

    assert time.thread_time() - started < 1


@given(st.text("abz -1", max_size=30))
def test_patterns_match_what_pythons_do(text: str):
    pattern = r"a{1,3}(?:b|z)|-1\b"
    finder = compile_words(Words((), (pattern,)))

    assert [m.span() for m in finder.match.finditer(text)] == [m.span() for m in re.finditer(pattern, text)]


def test_masks_are_counted():
    report = GuardReport()
    OUTPUT.whole("falcon and falcon, OPS-1", report)

    assert report.counts == {("SECRET_NAME", "mask"): 2, ("TICKET", "mask"): 1}
