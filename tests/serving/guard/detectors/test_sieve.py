"""What RE2 lets through is decided by the detectors' own patterns; a value that it lost would be masked by nobody."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.guard import Detector, Span
from serving.guard.detectors import basic, default_detectors, numbers, secret
from serving.guard.detectors import phrases as words
from serving.guard.detectors.growing import whole
from serving.guard.detectors.key_shapes import AGE_KEYS, API_KEYS, KEYS, Shape
from serving.guard.detectors.secret_words import SECRETS
from serving.guard.detectors.sieve import LEFT, OPEN, Sieve, after_escape
from serving.guard.text.folding import fold

VALUES: dict[str, list[str]] = json.loads(Path(__file__).parents[1].joinpath("values.json").read_text())
PHRASES = [*words.CARDS, *words.STATE_NUMBERS, *words.DOCUMENTS, *words.MEDICAL, *words.ACCOUNTS, *words.PHONES]

# One of every shape, `#` a digit and `@` a capital. Few have a valid checksum; a sieve must let them through.
SHAPES = [
    *("####-####-####-####", "#### ###### #####", "4### #### #### ####", "5###.####.####.####", "3### ###### ####"),
    *("# # # # # # # # # # # # #", "## ## ## ## ## ## ##", "### ### ### ### ###", "##### ##### #####", "###### ######"),
    *("####### #######", "######## #####", "4###############", "1800###########", "2########### ####"),
    *("###-##-####", "### ## ####", "###.###.###-##", "##.###.###/####-##", "756.####.####.##", "01010######"),
    *("##01010###1##", "######-####", "########+####", "######A###@", "##0101-1######", "##.##.##-###.##"),
    *("1 ## 05 ## ### ### ##", "1##05#B########", "########@", "######## @", "########-@", "######20##0101####"),
    *("AB######C", "AB ## ## ## C", "AB## ## ##D", "@@@@@@##A##@###@", "@@@@##0101H@@@@@##", "@@@P@####@"),
    *("X-#######@", "S#######@", "GB## @@@@ #### #### #### ##", "MT##@@@@#####@@@@@@@@@@"),
    *("+## ### ### ###", "+(##) ### ####", "(###) ###-####", "1 (###) ###-####", "1-###-###-####", "### ### ####"),
    *("DE## #### #### #### #### ##", "0049 ### ######"),
    *("3112#######", "##1231#####", "01.##.##.##.##", "0## #######", "0### ######", "0####-#####", "(01) #### ####"),
    *("01 ## ## ## ##", "1## #### ####", "1 ### ### ####", "0171/12345678"),
]  # fmt: skip
BETWEEN = [
    " ",
    "",
    "\n",
    "\\n",
    "\\u00e9",
    "\\u0041",
    "\\",
    ", ",
    ": ",
    ".",
    "-",
    "_",
    "/",
    "(",
    "+",
    "x",
    "7",
    "\u4e2d",
    "  ",
]


def every_number(text: str) -> tuple[list[int], list[int]]:
    """Without sieves: the first digits of all numbers of four digits."""
    places = [match.start() for match in re.finditer(r"[0-9](?<![0-9]{2})(?=(?:[^0-9]{0,16}[0-9]){3})", text)]
    return places, places


def made(rng: random.Random) -> str:
    """A text of numbers of all shapes, values, words and signs."""
    return fold("".join(_pieces(rng)))


def _pieces(rng: random.Random) -> Iterator[str]:
    for _ in range(rng.randint(1, 6)):
        if rng.random() < 0.5:
            phrase = rng.choice(PHRASES)
            yield rng.choice([phrase, phrase.upper(), f"{phrase} {rng.choice(sorted(words.FILLERS))}"])
        yield rng.choice(BETWEEN)
        shape = rng.choice(SHAPES) if rng.random() < 0.7 else rng.choice(rng.choice(list(VALUES.values())))
        yield re.sub("[#@]", lambda match: rng.choice("0123456789" if match[0] == "#" else "ABCDXYZ"), shape)
        yield rng.choice(BETWEEN)


NUMBERS = [
    detector
    for detector in default_detectors()
    if detector.entity in ("IBAN", "CARD_NUMBER", "NATIONAL_ID", "PHONE_NUMBER") or "_NUMBER" in detector.entity
]


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 1))
def test_no_number_is_lost(seed: int, share: float) -> None:
    text = made(random.Random(seed))
    start = int(len(text) * share)

    for detector in NUMBERS:
        assert detector.scan(text, start, True) == with_every_number(detector, text, start, True)

        values, settled = detector.scan(text, start, False)
        others, waiting = with_every_number(detector, text, start, False)
        assert values == others
        assert settled >= waiting
        # What the sieve need not wait for is no value, however the text goes on.
        for more in ("", "\n", "7", " 7", " 4111 1111 1111 1111"):
            whole_text, _ = with_every_number(detector, text + more, start, True)
            assert [value for value in whole_text if value.start < settled] == values


def with_every_number(detector: Detector, text: str, start: int, final: bool) -> tuple[list[Span], int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbers, "_positions", every_number)
        return detector.scan(text, start, final)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_is_let_through_after_anything_a_value_may_follow(shape: str) -> None:
    for digit in "37":
        value = shape.replace("#", digit).replace("@", "C")
        first = re.search("[0-9]", value)
        assert first is not None

        for before in ("", " ", "\n", "\\n", "\\u00aa", "x 12 y ", "\u4e2d"):
            text = fold(f"{before}{value}")

            assert len(before) + first.start() in numbers._positions(text)[0], text


@pytest.mark.parametrize("phrase", PHRASES)
def test_each_word_announces_a_number(phrase: str) -> None:
    for text in (f"{phrase}: 1234567", f"{phrase.upper()}_no. (123 4567", f"{phrase} is\n12-34-567"):
        assert text.index("1") in numbers._positions(text)[1], text


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-26 12:30:45.123 INFO worker-3 job=8f14e45f took 18.4 ms, 3 retries, 12,408 rows\n",
        "48213,Widget 8,1.25,2026-10-15,4417.50,ok,0.003,17,EUR\n",
        "1764150000000 1764150000123\n",
        '{"id": 12345, "price": 10.50, "size": [256, 512, 1024], "at": "2026-01-02T03:04:05Z"}\n',
    ],
)
def test_dates_times_and_amounts_are_passed_over(text: str) -> None:
    assert numbers._positions(text * 20) == ([], [])


@pytest.mark.parametrize("shape", [*API_KEYS, *AGE_KEYS], ids=lambda shape: whole(shape.parts))
def test_each_shape_of_a_key_is_let_through(shape: Shape) -> None:
    parts = (*shape.parts, (shape.chars, shape.least, shape.least))
    value = "".join(part if isinstance(part, str) else one_of(part[0]) * part[1] for part in parts)
    for before in ("", " ", "\\n", "\\u0041", "-", "\u4e2d"):
        places = KEYS.positions(f"{before}{value}")

        assert (0 if before.startswith("\\") else len(before)) in places, before
    assert 1 not in KEYS.positions(f"_{value}")


def one_of(chars: str) -> str:
    """A character of a class, a letter where it has one."""
    return next(char for char in "LADTMa1\\" if re.fullmatch(chars, char))


@pytest.mark.parametrize("prefix", ["sk-ab", "eyJab"])
def test_keys_without_a_vendor_are_let_through(prefix: str) -> None:
    assert KEYS.positions(f"a {prefix}") == [2]


@pytest.mark.parametrize("cue", ["Basic ", "basic\t", "BASIC ", "auth=", '"auth" : ', '\\"auth\\":'])
def test_each_cue_of_basic_credentials_is_let_through(cue: str) -> None:
    found = basic._CUE.search(cue)

    assert found is not None
    assert found.start() in KEYS.positions(cue)


@pytest.mark.parametrize(
    "cue", ["bearer ", "BEARER\t", "secret_access_key=", "SecretAccessKey: ", "SECRET-ACCESS-KEY'"]
)
def test_each_cue_of_a_key_is_let_through(cue: str) -> None:
    assert KEYS.positions(f"a {cue}") == [2]


@pytest.mark.parametrize(
    "sign", [":", "=", " := ", '\\": ', "' => ", " is ", " lautet ", " es: ", " est ", "\u2028is "]
)
@pytest.mark.parametrize(
    "word", ["password", "Passwort", "PASSWD", "passphrase", "pwd", "secret", "api-key", "signing key"]
)
def test_each_cue_of_a_secret_is_let_through(word: str, sign: str) -> None:
    text = f"my {word}{sign}"

    assert any(cue.match(text, 3) for cue in (secret._PASSWORD_CUE, secret._KEY_CUE))
    assert 3 in SECRETS.positions(text)


def test_a_sieve_finds_every_place() -> None:
    sieve = Sieve(rf"{LEFT}ab", rf"{OPEN}\+1", "b[+]")

    assert sieve.positions("ab+1 xab \\nab \u4e2dab (+1") == [0, 1, 9, 15, 18]
    assert sieve.find(b"ab+1", 1) == 1
    assert sieve.find(b"xab+2", 3) == -1


def test_a_value_begins_behind_the_escape_before_it() -> None:
    assert after_escape("\\u0041x", 0) == 6
    assert after_escape("\\nx", 0) == 2
    assert after_escape("\\0171", 0) == 0
    assert after_escape("x", 0) == 0
