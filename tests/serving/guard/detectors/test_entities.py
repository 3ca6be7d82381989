"""What each detector finds, what it lets through, and that a cue's reach does not depend on the cutting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.guard import MAX_HELD, Detector, EntityActions, Guard, GuardSettings
from serving.guard.detectors import default_detectors
from serving.guard.text.folding import fold
from tests.support.growth import assert_linear

BY_MODEL = {"person_name", "street_address"}


def masking(entities: set[str]) -> Guard:
    return Guard(GuardSettings.model_validate({"output": dict.fromkeys(entities, "mask")}))


EVERYTHING = masking(set(EntityActions.model_fields))
OF_PLACES = {"postal_code", "domain_name"}
PATTERNS = masking(set(EntityActions.model_fields) - BY_MODEL - OF_PLACES)
DEFAULT = Guard(GuardSettings())

NATIONAL_IDS = [
    *(
        "078 05 1120",
        "900-70-1234",
        "185057800608491",
        "X1234567L",
        "X-1234567-L",
        "11.444.777/0001-61",
        "756.9217.0769.85",
    ),
    *(
        "811228-9874",
        "19811228-9874",
        "131052-308T",
        "11010519491231002X",
        "S1234567D",
        "85.07.30-033.28",
    ),
    *("85073003328", "900101-1234567", "HEGG560427MVZRRL04", "ABCPE1234F", "AB 123456 C"),
]

CUED = [
    ("my SSN is {}", "123456789", "NATIONAL_ID"),
    ("Steuer-ID: {}", "86 095 742 719", "NATIONAL_ID"),
    ("NHS number {}", "943 476 5919", "NATIONAL_ID"),
    ("BSN {}", "111222333", "NATIONAL_ID"),
    ("PESEL: {}", "44051401359", "NATIONAL_ID"),
    ("identity number {}", "8001015009087", "NATIONAL_ID"),
    ("Aadhaar no. {}", "2345 6789 0124", "NATIONAL_ID"),
    ("SIN: {}", "046-454-286", "NATIONAL_ID"),
    ("TFN {}", "123 456 782", "NATIONAL_ID"),
    ("passport no. {}", "X12345678", "DOCUMENT_NUMBER"),
    ("my driver's license is {}", "D123-4567-8901", "DOCUMENT_NUMBER"),
    ("driving licence: {}", "MORGA657054SM9IJ", "DOCUMENT_NUMBER"),
    ("MRN: {}", "00123456", "MEDICAL_NUMBER"),
    ("patient ID {}", "AB-1234567", "MEDICAL_NUMBER"),
    ("account number {}", "12345678", "ACCOUNT_NUMBER"),
    ("card {}", "060426070011", "CARD_NUMBER"),
    ("password: {}", "hunter2", "PASSWORD"),
    ("the password is {}", "c0rrect-horse", "PASSWORD"),
    ('"password": "{}"', "P@ssw0rd", "PASSWORD"),
    ("Server=db;User Id=sa;Password={};", "Str0ng", "PASSWORD"),
    ('"client_secret": "{}"', "aB3dE5fG7hI9jK1lM3", "API_KEY"),
    ("AccountKey={};", "abcdEFGH1234567890abcdEFGH==", "API_KEY"),
    ("API key = {}", "0123456789abcdef0123456789abcdef", "API_KEY"),
    ("Authorization: Basic {}", "c3ZjOnMzY3JldC1Fbm91Z2g=", "PASSWORD"),
    ('"auth": "{}"', "c3ZjOnMzY3JldC1Fbm91Z2g=", "PASSWORD"),
    ("https://{}", "hooks.slack.com/services/T0000000A/B0000000A/abcdefghijklmnopqrstuvwx", "API_KEY"),
    ("bot {}", "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw8", "API_KEY"),
    ("token {}", "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs", "API_KEY"),
    ("licence {}", "0123456789abcdef0123456789abcdefFFFFNRAL", "API_KEY"),
    ("age: {}", "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX", "PRIVATE_KEY"),
    ("postgres://{}", "user:pa55@db.example.com:5432/app?x=1", "CONNECTION_STRING"),
    ("mongodb+srv://{}", "root:s3cret@a.example.com,b.example.com/admin", "CONNECTION_STRING"),
    ("https://{}", "joe:pw@example.com/x.git", "CONNECTION_STRING"),
    ("from {}", "192.168.0.17", "IP_ADDRESS"),
    ("from {}", "fe80::1ff:fe23:4567:890a", "IP_ADDRESS"),
    ("from {}", "2001:db8:0:0:0:0:0:1", "IP_ADDRESS"),
    ("born on {}", "12 March 1985", "BIRTH_DATE"),
    ("DOB: {}", "01/02/1990", "BIRTH_DATE"),
    ("date of birth {}", "March 3, 1985", "BIRTH_DATE"),
]

ORDINARY = [
    "the password is required, 8 characters or more",
    "password = get_password()",
    "password: ${DB_PASSWORD1}",
    "token: str = None",
    "max_tokens=4096, tokens: 12",
    "secret: /run/secrets/db1",
    "the key is under the mat 2024",
    "key = cache[user_1]",
    "an account of 2024-10-15",
    "the patient is 45 years old",
    "visa for 30 days",
    "sort 10 of 12",
    "page 12345678 of the index",
    "http://localhost:8080/a@b",
    "see http://example.com:80/",
    "12:30:45",
    "std::vector",
    "v1.2.3.4.5",
    "10.0.19045.3803",
    "::",
    "in March 3, 1985 it rained",
    "bornite 01/02/1990",
    "tax year 2024",
    "order 123-456-78",
    "ISBN 978-3-16-148410-0",
]

HOSTILE = [
    *(
        "1",
        "1 ",
        "12 34 ",
        "+",
        "@",
        "a",
        "A",
        "AB",
        "AB12 ",
        "GB29",
        "DE89 ",
        "123-45-",
        "078-05-1120 ",
        "1.",
        "1.1.1.1.",
        "::",
        "a:",
    ),
    *(
        "password",
        "password:",
        "password: a",
        "token=",
        "key key",
        "secret=a1",
        "://",
        "://a:",
        "a://a:a",
        "ssn ",
        "ssn 1",
        "born ",
    ),
    *("born 1 ", "passport ", "passport A-", "A-1", "account 1 ", "mar ", "3 March ", "X-", "[[[[", "'\""),
    *("Basic ", "Basic a", "auth=a", "1234567:AA", "hooks.slack.com/", "discord.com/api/", "MTk4.", "AGE-", "0a"),
    *("\\u0041", "ssn no no ", "4111 1111 ", "0123 45 67 "),
]

PIECES = [
    *(text.format(value) for text, value, _ in CUED),
    *NATIONAL_IDS,
    *ORDINARY,
    *(
        " ",
        "",
        ", ",
        "\n",
        ": ",
        "-",
        "A",
        "1",
        "ssn ",
        "password: ",
        "token=",
        "born ",
        "account ",
        "mrn ",
        "://",
        "x" * 30,
        "AB ",
    ),
]


def cut(text: str, places: Sequence[int]) -> Iterator[str]:
    for start, end in pairwise([0, *places, len(text)]):
        yield text[start:end]


def cleaned(guard: Guard, text: str, places: Sequence[int]) -> str:
    cleaner = guard.stream()
    out = []
    for piece in cut(text, places):
        out.append(cleaner.feed(piece))
        assert cleaner.held <= MAX_HELD
    return "".join(out) + cleaner.finish()


@st.composite
def texts(draw: st.DrawFn) -> str:
    pieces = draw(st.lists(st.sampled_from(PIECES), max_size=6))
    share = draw(st.floats(0, 1))
    return "".join(piece[: int(len(piece) * share)] if number == 2 else piece for number, piece in enumerate(pieces))


@pytest.mark.parametrize("value", NATIONAL_IDS)
def test_a_national_number_is_known_by_its_shape_and_checksum(value: str) -> None:
    text = f"Ask Ann: {value}, she said."

    result = DEFAULT.clean_text(text)[0]

    assert "[NATIONAL_ID], she said." in result
    assert not any(char.isdigit() for char in result)
    assert cleaned(DEFAULT, text, range(len(text))) == result


@pytest.mark.parametrize(
    "value", [value for value in NATIONAL_IDS if value[-1].isdigit() and not value.startswith("90")]
)
def test_a_national_number_with_another_check_digit_is_let_through(value: str) -> None:
    changed = value[:-1] + str((int(value[-1]) + 1) % 10)
    if value in ("078 05 1120", "HEGG560427MVZRRL04"):  # no check digit
        return

    assert DEFAULT.clean_text(f"It is {changed}.")[0] == f"It is {changed}."


@pytest.mark.parametrize(("text", "value", "entity"), CUED)
def test_a_value_is_known_by_the_words_before_it(text: str, value: str, entity: str) -> None:
    whole = f"Note: {text.format(value)} and more"
    expected = f"Note: {text.format(f'[{entity}]')} and more"

    assert PATTERNS.clean_text(whole)[0] == expected
    assert cleaned(PATTERNS, whole, range(len(whole))) == expected
    for place in range(len(whole)):
        assert cleaned(PATTERNS, whole, [place]) == expected


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    assert PATTERNS.clean_text(f"See {text}, and")[0] == f"See {text}, and"


@settings(max_examples=150, deadline=None)
@given(texts(), st.integers(1, 9))
def test_every_cutting_gives_what_the_whole_gives(text: str, size: int) -> None:
    for guard in (EVERYTHING, DEFAULT):
        assert cleaned(guard, text, range(0, len(text), size)) == guard.clean_text(text)[0]


@settings(max_examples=200, deadline=None)
@given(texts(), st.floats(0, 1), st.sampled_from(default_detectors()))
def test_detectors_keep_their_contract(text: str, share: float, detector: Detector) -> None:
    folded = fold(text)
    known = folded[: int(len(folded) * share)]

    spans, settled = detector.scan(known, 0, False)
    later, end = detector.scan(folded, 0, True)

    expected = [span for span in later if span.start < settled]
    assert [span.start for span in spans] == [span.start for span in expected]
    for span, full in zip(spans, expected, strict=True):
        assert span.end == full.end or (span.rest is not None and span.end == settled <= full.end)
    assert end == len(folded)
    assert len(known) - settled <= MAX_HELD


@pytest.mark.parametrize("pattern", HOSTILE, ids=ascii)
def test_time_grows_with_the_text(pattern: str) -> None:
    def scans(size: int) -> Callable[[], object]:
        text = (pattern * size)[:size]
        return lambda: [detector.scan(text, 0, True) for detector in default_detectors()]

    assert_linear(scans, 8_000)
