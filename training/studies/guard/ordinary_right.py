"""What the guard changed in a text, and whether it should have.

Ordinary files hold real values, too: addresses of authors, keys in examples, tokens of a chat format. Each rule here is
written from what a reader would say, apart from the detectors; what no rule calls right counts as false.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from serving.guard.question.known_tokens import AMBIGUOUS_TOKENS, KNOWN_TOKENS
from serving.guard.settings import EntityActions
from serving.guard.text.folding import fold
from training.studies.guard.rendering import fetched

_ENTITIES = "|".join(name.upper() for name in EntityActions.model_fields)
_MASK = re.compile(rf"\[({_ENTITIES}|HIDDEN_TEXT|CONTROL_TOKEN|LINK)\]")
_QUOTED_MASK = re.compile(rf'"{_MASK.pattern}"')
_AHEAD = 24
"""Characters behind a change that have to be the same again."""
_LONGEST_MASK = 24


class Change(NamedTuple):
    """One change: what the guard says it is, where it stands in both texts, and the text that went."""

    detector: str
    start: int
    end: int
    at: int
    """In the cleaned text."""


def changes(before: str, after: str, *, mark: str) -> list[Change]:
    """What was changed, in order; `mark`: what a space means that was put in."""
    changed: list[Change] = []
    place = at = 0
    while place < len(before) or at < len(after):
        same = _same(before, place, after, at)
        place, at = place + same, at + same
        if place == len(before) and at == len(after):
            break
        change, size = _change(before, place, after, at, mark)
        changed.append(change)
        place, at = change.end, at + size
    return changed


def _same(before: str, place: int, after: str, at: int) -> int:
    """How many characters are the same from here on."""
    size = step = 0
    most = min(len(before) - place, len(after) - at)
    step = most
    while step:
        if before[place + size : place + size + step] == after[at + size : at + size + step]:
            size += step
            if size + step > most:
                step = most - size
        else:
            step //= 2
    return size


def _change(before: str, place: int, after: str, at: int, mark: str) -> tuple[Change, int]:
    """The change that begins here, and how long it is in the cleaned text."""
    for pattern in (_MASK, _QUOTED_MASK):
        if (mask := pattern.match(after, at)) is not None:
            following = after[mask.end() : mask.end() + _AHEAD + _LONGEST_MASK]
            another = pattern.search(following)
            following = following[:_AHEAD] if another is None else following[: min(_AHEAD, another.start())]
            end = before.find(following, place) if following else len(before)
            if end >= 0:
                return Change(mask[1], place, end, at), mask.end() - at
    if after[at : at + 1] == " " and after[at + 1 : at + 2] == before[place : place + 1]:
        return Change(mark, place, place, at), 1
    end = before.find(after[at : at + _AHEAD], place)
    if at < len(after) and end > place:
        return Change("invisible", place, end, at), 0
    return Change("unknown", place, len(before), at), len(after) - at


_CUES = {
    "PHONE_NUMBER": r"phone|\btel\b|\btel:|\bfax\b|mobile|\bcall\b|whatsapp|\bsms\b|hotline",
    "CARD_NUMBER": r"\bcard|\bvisa\b|mastercard|\bamex\b|credit",
    "NATIONAL_ID": r"\bssn\b|social security|national id|\bbsn\b|aadhaar|\btax id\b|\bnino\b|\bpesel\b|\bcpf\b|\bnif\b",
    "DOCUMENT_NUMBER": r"passport|licen[cs]e (?:no|number)|\bvisa\b",
    "MEDICAL_NUMBER": r"patient|\bmrn\b|insurance",
    "ACCOUNT_NUMBER": r"account|\bbank\b|customer",
    "BIRTH_DATE": r"born|birth|\bdob\b",
}
"""Words near a number that say what it is."""
_NEAR = 60
_ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@(?:[\w-]{1,63}\.)+([A-Za-z]{2,18}|xn--[\w-]+)", re.ASCII)
_ENDING_WORDS = (
    "com org net edu gov mil int info biz io ai dev app co me tv eu uk de fr es it nl be ch at se no dk "
    "fi pl cz sk hu ro gr pt ie ru ua by kz tr il in cn jp kr tw hk sg my th vn id ph au nz ca us mx br "
    "ar cl za ng ke eg sa ae ir pk lt lv ee si hr rs bg is lu mt cy name pro xyz online cloud tech "
    "example test invalid localhost local fm gg sh la cc ws to st su ly email academy"
)
_ENDINGS = frozenset(_ENDING_WORDS.split())
"""Of hosts' names."""
_CALLED = re.compile(r"\(")
_KEY = re.compile(
    r"AKIA|ASIA|gh[opsur]_|github_pat_|glpat-|sk[-_]|pk_|rk_|xox[abpr]-|xapp-|eyJ|AIza|ya29\.|npm_|pypi-|hf_|dop_v1_|SG\.|"
    r"key-|shp|sq0|AGE-|-----BEGIN|hooks\.slack\.com|discord(?:app)?\.com"
)
_KEY_CUE = re.compile(r"(?i)(?:key|token|secret|bearer|credential|password|passwd|pwd|auth)[\w\"' -]{0,24}[:= (,]")
_LOGIN = re.compile(r"(?i)(?:pass(?:word|wd|phrase|code)?|pwd|secret)[\"']?\s*(?::|=|\bis\b)")
_CODE_VALUE = re.compile(r"[\w.]+\(|[\w.]+\[|[a-z_]\w*(?:\.\w+)+\Z|[A-Za-z_]\w*\Z|[$%{<]")
"""A call, an index, a chain of attributes, a name, a template's place: none is a password."""
_CONNECTION = re.compile(r"[a-z][a-z0-9+.-]*://[^\s:@/]*:[^\s@]+@", re.IGNORECASE)
_CONTROL = re.compile(r"\ufeff|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]+.*", re.DOTALL)
"""A byte order mark, control characters, and terminals' sequences that begin with one."""


def is_right(change: Change, before: str, after: str) -> bool:
    """Whether a reader would want this change."""
    value = before[change.start : change.end]
    detector = change.detector
    if detector == "control_token":
        return _begins_token(before, change.start)
    if detector == "markup":
        return _was_needed(change, after)
    if detector == "invisible":
        return _CONTROL.fullmatch(value) is not None
    near = f"{before[max(0, change.start - _NEAR) : change.start]} {before[change.end : change.end + 12]}"
    if detector in _CUES:
        return re.search(_CUES[detector], near, re.IGNORECASE) is not None or _is_international(detector, value)
    if detector == "EMAIL_ADDRESS":
        address = _ADDRESS.search(value)
        behind = before[change.end : change.end + 8]
        return address is not None and address[1].lower() in _ENDINGS and _CALLED.match(behind) is None
    if detector == "API_KEY":
        return _KEY.search(value) is not None or _KEY_CUE.search(near) is not None
    if detector == "PASSWORD":
        line = before[max(0, change.start - _NEAR) : change.end].rpartition("\n")[2]
        is_code = _CODE_VALUE.match(value) is not None and before[change.start - 1 : change.start] not in ("'", '"')
        return _LOGIN.search(line) is not None and not is_code
    if detector == "CONNECTION_STRING":
        return _CONNECTION.search(value) is not None or "://" in before[max(0, change.start - 16) : change.end]
    return detector in ("PRIVATE_KEY", "IBAN")


def _is_international(detector: str, value: str) -> bool:
    """A number written with `+` and its country."""
    return detector == "PHONE_NUMBER" and re.fullmatch(r"\+[1-9][\d ()-]{7,22}", value) is not None


def _begins_token(before: str, start: int) -> bool:
    """Whether a known token stands here, of which the first character is before the space."""
    head = before[max(0, start - 1) : start + 60]
    return any(head.startswith((token, fold(token))) for token in KNOWN_TOKENS | AMBIGUOUS_TOKENS)


def _was_needed(change: Change, after: str) -> bool:
    """Whether a renderer would fetch or run more without this one space."""
    return len(fetched(after[: change.at] + after[change.at + 1 :])) > len(fetched(after))


def named(listed: list[Change], before: str, after: str) -> Iterator[tuple[str, bool, str]]:
    """(detector, whether it is right, the text that went with what stands around it)."""
    for change in listed:
        shown = f"{before[max(0, change.start - 30) : change.start]}⟦{before[change.start : change.end]}⟧"
        yield change.detector, is_right(change, before, after), f"{shown}{before[change.end : change.end + 20]}"
