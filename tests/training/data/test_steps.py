"""Cleaning, languages, quality, contamination: what each step changes, drops and leaves alone."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.cleaning import Cleaner, LineCounts, repaired
from training.data.language import known_languages, language_of
from training.data.quality import Evaluations, fault_of, repetition
from training.data.words import runs, words_of
from training.recipes.data import CleanSettings, QualitySettings

CLEAN = Cleaner(CleanSettings())


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("\x1b[31mred\x1b[0m\x07", "red"),
        ("a \r\nb\r\rc\u2028d", "a\nb\n\nc\nd"),
        ("\n\n a  \n\n\n\nb\t\n", "a\n\nb"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("CafÃ© â€œquotedâ€\x9d donâ€™t ðŸ˜€", "Café “quoted” don’t 😀"),
        ("naïve café – “as it is” 😀 «oui»", "naïve café – “as it is” 😀 «oui»"),
        ("👩\u200d🔧 and می\u200cخواهم", "👩\u200d🔧 and می\u200cخواهم"),
        ("ÃO — É — Â", "ÃO — É — Â"),
        ("MAÇÃ»", "MAÇÃ»"),
    ],
)  # fmt: skip
def test_cleaning(text: str, clean: str) -> None:
    assert CLEAN(text) == clean


@given(st.text())
def test_cleaning_twice_changes_nothing_more_but_what_was_misread_twice(text: str) -> None:
    cleaner = Cleaner(CleanSettings(repair=False))

    once = cleaner(text)

    assert cleaner(once) == once
    assert unicodedata.is_normalized("NFC", once)


@given(st.text(st.characters(min_codepoint=0xA0, max_codepoint=0xFF), min_size=1, max_size=4))
def test_misread_text_is_restored(text: str) -> None:
    misread = "".join(
        bytes([byte]).decode("cp1252") if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else chr(byte)
        for byte in text.encode()
    )

    assert repaired(f"x {misread}") == f"x {text}"


def test_lines_that_stand_in_most_texts_are_boilerplate() -> None:
    lines = LineCounts()
    texts = [f"Accept all cookies\nText number {number}, and this is what it says\n}}" for number in range(40)]
    for text in texts:
        lines.add(text)
    cleaner = Cleaner(CleanSettings(boilerplate=0.2), lines)

    assert cleaner(texts[3]) == "Text number 3, and this is what it says\n}"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("It was the best of times, it was the worst of times, and we had everything before us.", "en"),
        ("Der Mann, der auf dem Berg wohnt, hat sich ein neues Haus gebaut und ist nicht zu sehen.", "de"),
        ("Les enfants de la ville sont dans une école qui est plus grande que celle du village.", "fr"),
        ("El perro de la casa no es como los otros, pero por la noche duerme en el jardín.", "es"),
        ("O menino não sabia que a mãe estava em casa com os irmãos, mas foi até lá.", "pt"),
        ("Il libro che ho letto è più bello di quello che mi hai dato, ma non è finito.", "it"),
        ("Het huis van de buren is niet zo groot als dat van mij, maar het staat op een heuvel.", "nl"),
        ("Це не те, що я хотів сказати, але він був там і про це знає.", "uk"),
        ("Это не то, что я хотел сказать, но он был там и так же знал об этом.", "ru"),
        ("これは日本語の文章です。東京に住んでいます。", "ja"),
        ("这是一个中文句子，我住在北京。", "zh"),
        ("이것은 한국어 문장입니다.", "ko"),
        ("هذا الكتاب الذي كان في البيت هو من كل ما قرأت", "ar"),
        ("Αυτό είναι ένα κείμενο στα ελληνικά.", "el"),
        ("Ok lar u c", None),
        ("", None),
        ("1234 5678 -- ### ", None),
        ("xqzt blorf gnarp wibble frotz", None),
        ("John Smith, Mary Jones, Springfield, Omaha, Kansas City, Wichita, Toledo", None),
        ("The dog is in the house und der Hund ist nicht in dem Haus of the man", None),
    ],
)  # fmt: skip
def test_languages_are_told_or_not_known(text: str, language: str | None) -> None:
    assert language_of(text) == language
    assert language is None or language in known_languages()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("short", "too short"),
        ("long " * 100, "too long"),
        ("=-=-=-=-=-= a =-=-=-=-=-=", "mostly symbols"),
        ("the same line again\n" * 5, "repeats itself"),
        ("buy now and save a lot of money today " * 6, "repeats itself"),
        ("An ordinary sentence, with commas: and a colon.", None),
        ("日本語の文章は単語の間に空白がありません。", None),
    ],
)
def test_quality(text: str, fault: str | None) -> None:
    settings = QualitySettings(min_characters=10, max_characters=300)

    assert fault_of(text, settings) == fault


def test_text_that_says_new_things_does_not_repeat_itself() -> None:
    assert repetition("one two three four five six seven eight nine ten eleven twelve") == 0
    assert repetition("") == 0


def test_what_shares_a_run_of_words_with_an_evaluation_is_found() -> None:
    evaluations = Evaluations(["What is the capital of the old kingdom of Wessex, and when?", "Name three rivers"], 8)

    assert evaluations.share_with("He asked: what is the CAPITAL of the old kingdom of Wessex? Nobody knew.")
    assert evaluations.share_with("please name three rivers now")
    assert not evaluations.share_with("The capital of the old kingdom of Mercia is not known to anybody here.")
    assert not evaluations.share_with("")


def test_runs_are_the_same_in_every_process_and_whatever_the_case() -> None:
    assert runs("One two, THREE", 2).tolist() == runs("one Two three", 2).tolist()
    assert runs("one two", 3).tolist() == runs("one two", 2).tolist()
    assert words_of("東京 is Tokyo") == ["東", "京", "is", "tokyo"]
    assert sorted(runs("one two three", 2).tolist()) == runs("one two three", 2).tolist()
    assert len(runs("... !", 3)) == 0
