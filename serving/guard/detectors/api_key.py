"""API keys by their vendors' prefixes, JSON web tokens, and secrets announced by what stands before them."""

from __future__ import annotations

import re

from serving.guard.detector import Span
from serving.guard.detectors import sieve
from serving.guard.detectors.boundary import LEFT
from serving.guard.detectors.growing import Run, prefix_closure
from serving.guard.detectors.sieve import Sieve

_WORD = "[A-Za-z0-9_-]"
_ALNUM = "[A-Za-z0-9]"

_PREFIXES: tuple[tuple[str, str, int], ...] = (
    # prefix, what follows it, how much of that makes a key certain (the whole is at least 16 characters long)
    ("sk-signet-", _WORD, 16),
    ("sk-ant-", _WORD, 16),
    ("sk-proj-", _WORD, 16),
    ("sk-svcacct-", _WORD, 16),
    ("sk-admin-", _WORD, 16),
    ("sk-or-v1-", _WORD, 16),
    ("AKIA", "[A-Z0-9]", 16),  # AWS, long-lived and temporary
    ("ASIA", "[A-Z0-9]", 16),
    ("ABIA", "[A-Z0-9]", 16),
    ("ACCA", "[A-Z0-9]", 16),
    ("ghp_", _ALNUM, 20),  # GitHub
    ("gho_", _ALNUM, 20),
    ("ghu_", _ALNUM, 20),
    ("ghs_", _ALNUM, 20),
    ("ghr_", _ALNUM, 20),
    ("github_pat_", "[A-Za-z0-9_]", 16),
    ("glpat-", _WORD, 16),  # GitLab
    ("gldt-", _WORD, 16),
    ("glrt-", _WORD, 16),
    ("glcbt-", _WORD, 16),
    ("glptt-", _WORD, 16),
    ("xoxa-", _WORD, 12),  # Slack
    ("xoxb-", _WORD, 12),
    ("xoxe-", _WORD, 12),
    ("xoxo-", _WORD, 12),
    ("xoxp-", _WORD, 12),
    ("xoxr-", _WORD, 12),
    ("xoxs-", _WORD, 12),
    ("xapp-", _WORD, 16),
    ("AIza", _WORD, 30),  # Google
    ("GOCSPX-", _WORD, 16),
    ("sk_live_", _ALNUM, 10),  # Stripe
    ("sk_test_", _ALNUM, 10),
    ("rk_live_", _ALNUM, 10),
    ("rk_test_", _ALNUM, 10),
    ("whsec_", _ALNUM, 16),
    ("hf_", _ALNUM, 24),
    ("npm_", _ALNUM, 24),
    ("pypi-", _WORD, 24),
    ("dop_v1_", "[a-f0-9]", 24),
    ("shpat_", "[A-Fa-f0-9]", 24),
    ("dapi", "[a-f0-9]", 28),
    ("gsk_", _ALNUM, 24),
    ("xai-", _ALNUM, 24),
    ("pplx-", _ALNUM, 24),
    ("nvapi-", _WORD, 24),
    ("SK", "[a-f0-9]", 32),  # Twilio
)
_DOTTED: tuple[tuple[str, str, int], ...] = (
    ("SG.", _WORD, 16),  # SendGrid
    ("ya29.", _WORD, 16),
    ("eyJhbGciOi", _WORD, 8),  # a JWT whose header begins with alg, typ, kid, enc …
    ("eyJ0eXAiOi", _WORD, 8),
    ("eyJraWQiOi", _WORD, 8),
    ("eyJlbmMiOi", _WORD, 8),
    ("eyJjdHkiOi", _WORD, 8),
    ("eyJ4NXQiOi", _WORD, 8),
    ("eyJqa3UiOi", _WORD, 8),
)
# sk-… without more is also how CSS classes and packages are named: a capital or digit must come early.
_PLAIN_SK = r"sk-(?=[A-Za-z0-9_-]{0,19}[A-Z0-9])[A-Za-z0-9_-]{20}", r"sk-[A-Za-z0-9_-]{0,19}"
_ANY_JWT = r"eyJ[A-Za-z0-9_-]{8,256}\.[A-Za-z0-9_-]{8}", r"eyJ[A-Za-z0-9_-]{0,256}(?:\.[A-Za-z0-9_-]{0,7})?"
_MAX_UNDECIDED = 270
"""Longer than the longest beginning that is not yet certain: a JWT's header."""


def _one_of(patterns: list[str]) -> str:
    return "|".join(patterns)


def _full(shapes: tuple[tuple[str, str, int], ...]) -> list[str]:
    return [rf"{re.escape(prefix)}{chars}{{{least}}}" for prefix, chars, least in shapes]


def _begun(shapes: tuple[tuple[str, str, int], ...]) -> list[str]:
    return [prefix_closure(prefix, chars, least) for prefix, chars, least in shapes]


_BEARER_CUE = r"[Bb](?:earer|EARER)[ \t]{1,4}"
_AWS_CUE = r"[Ss](?:ecret|ECRET)[_ -]?(?:access|Access|ACCESS)[_ -]?(?:key|Key|KEY)[\"' \t:=]{1,8}"
_SIEVE = Sieve(
    rf"{sieve.LEFT}(?:{_one_of([f'{re.escape(prefix)}{chars}{{2}}' for prefix, chars, _ in (*_PREFIXES, *_DOTTED)])})",
    rf"{sieve.LEFT}(?:sk-|eyJ){_WORD}{{2}}",
    _BEARER_CUE,
    _AWS_CUE,
)
"""Where a key may begin, or the JSON escape before it, or a cue."""
_KEY = re.compile(
    rf"{LEFT}(?:{_one_of([*_full(_PREFIXES), _PLAIN_SK[0]])}|(?P<dotted>{_one_of([*_full(_DOTTED), _ANY_JWT[0]])}))"
)
_BEGUN = re.compile(rf"{LEFT}(?:{_one_of([*_begun((*_PREFIXES, *_DOTTED)), _PLAIN_SK[1], _ANY_JWT[1]])})\Z")
_TAIL_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."

_PLAIN_REST = Run("A-Za-z0-9_-")
_DOTTED_REST = Run("A-Za-z0-9_=-", ".")


class PrefixedKeys:
    """Keys that their first characters give away."""

    entity = "API_KEY"
    skips_plain_words = True

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        size = len(text)
        while (match := _next_key(text, start)) is not None:
            if not final and (begun := _begun_at(text, start)) < match.start():
                return spans, begun
            rest = _PLAIN_REST if match["dotted"] is None else _DOTTED_REST
            start, still_open = rest(text, match.end(), final)
            if still_open:
                return [*spans, Span(match.start(), start, rest)], start
            spans.append(Span(match.start(), start))
        return spans, size if final else _begun_at(text, start)


def _next_key(text: str, start: int) -> re.Match[str] | None:
    """What `_KEY.search` finds."""
    for place in sieve.places_from(_SIEVE.places(text), start - sieve.MAX_ESCAPE):
        begin = sieve.after_escape(text, place)
        if begin >= start and (key := _KEY.match(text, begin)) is not None:
            return key
    return None


def _begun_at(text: str, start: int) -> int:
    """Where a key may have begun that is not certain yet; the end of the text when nowhere."""
    window = text[max(start, len(text) - _MAX_UNDECIDED) :]
    begun = _BEGUN.search(text, len(text) - len(window) + len(window.rstrip(_TAIL_CHARS)))
    return len(text) if begun is None else begun.start()


_CUE = re.compile(rf"{_BEARER_CUE}|(?P<aws>{_AWS_CUE})")
_MAX_CUE = 32
_BEARER = re.compile(r"(?=[A-Za-z0-9._~+/-]{0,19}[0-9])[A-Za-z0-9._~+/-]{20}")
_AWS_SECRET = re.compile(r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
_BEARER_REST = Run("A-Za-z0-9_~+/=-", ".")
_UNDECIDED_VALUE = re.compile(r"[A-Za-z0-9._~+/-]{0,40}\Z")


class CuedKeys:
    """Secrets without a shape of their own: what follows `Bearer`, and AWS secret access keys."""

    entity = "API_KEY"
    skips_plain_words = True

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        for cue in sieve.matches(_CUE, text, _SIEVE.places(text), max(0, start - _MAX_CUE)):
            begin = cue.end()
            if begin < start:
                continue
            if not final and _UNDECIDED_VALUE.match(text, begin) is not None:
                return spans, begin
            if cue["aws"] is not None:
                value = _AWS_SECRET.match(text, begin)
                if value is not None:
                    spans.append(Span(begin, value.end()))
                    start = value.end()
                continue
            value = _BEARER.match(text, begin)
            if value is None:
                continue
            start, still_open = _BEARER_REST(text, value.end(), final)
            if still_open:
                return [*spans, Span(begin, start, _BEARER_REST)], start
            spans.append(Span(begin, start))
        return spans, len(text)
