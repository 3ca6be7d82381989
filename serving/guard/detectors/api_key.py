"""Keys by their vendors' shapes, JSON web tokens, and secrets announced by what stands before them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from serving.guard.detector import Span
from serving.guard.detectors import sieve
from serving.guard.detectors.boundary import LEFT
from serving.guard.detectors.growing import Run, beginning, whole
from serving.guard.detectors.key_shapes import AGE_KEYS, API_KEYS, AWS_CUE, BEARER_CUE, DOTTED, KEYS, PLAIN, Shape

# sk-… without more is also how CSS classes and packages are named: a capital or digit must come early.
_PLAIN_SK = r"sk-(?=[A-Za-z0-9_-]{0,19}[A-Z0-9])[A-Za-z0-9_-]{20}", r"sk-[A-Za-z0-9_-]{0,19}"
_ANY_JWT = r"eyJ[A-Za-z0-9_-]{8,256}\.[A-Za-z0-9_-]{8}", r"eyJ[A-Za-z0-9_-]{0,256}(?:\.[A-Za-z0-9_-]{0,7})?"
_MAX_UNDECIDED = 270
"""Longer than the longest beginning that is not yet certain: a JWT's header."""
_TAIL_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.:/\\"


def _one_of(patterns: Iterable[str]) -> str:
    return "|".join(patterns)


def _certain(shape: Shape) -> str:
    return whole((*shape.parts, (shape.chars, shape.least, shape.least)))


class ShapedKeys:
    """Keys that their first characters give away."""

    skips_plain_words = True

    def __init__(self, entity: str, shapes: Sequence[Shape], *others: tuple[str, str, Run], initial: str = "") -> None:
        """`others`: patterns of a whole key and of what may become one, and how it goes on.

        `initial`: the letter with which all keys begin; most pieces of a stream hold none.
        """
        self.entity = entity
        self._initial = initial
        rests = list(dict.fromkeys([*(shape.rest for shape in shapes), *(rest for _, _, rest in others)]))
        self._rests = {f"rest{number}": rest for number, rest in enumerate(rests)}
        patterns = [(shape.only + _certain(shape), shape.rest) for shape in shapes]
        patterns += [(pattern, rest) for pattern, _, rest in others]
        groups = (
            rf"(?P<{name}>{_one_of(pattern for pattern, its in patterns if its is rest)})"
            for name, rest in self._rests.items()
        )
        begun = _one_of(
            [
                *(beginning(shape.parts, shape.chars, shape.least) for shape in shapes),
                *(pattern for _, pattern, _ in others),
            ]
        )
        self._key = re.compile(rf"{LEFT}(?:{_one_of(groups)})")
        self._begun = re.compile(rf"{LEFT}(?:{begun})\Z")

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        size = len(text)
        if text.find(self._initial, start) < 0:
            return spans, size
        while (match := self._next(text, start)) is not None:
            if not final and (begun := self._begun_at(text, start)) < match.start():
                return spans, begun
            rest = self._rests[match.lastgroup or ""]
            start, still_open = rest(text, match.end(), final)
            if still_open:
                return [*spans, Span(match.start(), start, rest)], start
            spans.append(Span(match.start(), start))
        return spans, size if final else self._begun_at(text, start)

    def _next(self, text: str, start: int) -> re.Match[str] | None:
        """What `_key.search` finds."""
        for position in sieve.positions_from(KEYS.positions(text), start - sieve.MAX_ESCAPE):
            begin = sieve.after_escape(text, position)
            if begin >= start and (key := self._key.match(text, begin)) is not None:
                return key
        return None

    def _begun_at(self, text: str, start: int) -> int:
        """Where a key may have begun that is not certain yet; the end of the text when nowhere."""
        window = text[max(start, len(text) - _MAX_UNDECIDED) :]
        begun = self._begun.search(text, len(text) - len(window) + len(window.rstrip(_TAIL_CHARS)))
        return len(text) if begun is None else begun.start()


def api_keys() -> ShapedKeys:
    return ShapedKeys("API_KEY", API_KEYS, (*_PLAIN_SK, PLAIN), (*_ANY_JWT, DOTTED))


def age_keys() -> ShapedKeys:
    return ShapedKeys("PRIVATE_KEY", AGE_KEYS, initial="A")


_CUE = re.compile(rf"{BEARER_CUE}|(?P<aws>{AWS_CUE})")
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
        for cue in sieve.matches(_CUE, text, KEYS.positions(text), max(0, start - _MAX_CUE)):
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
