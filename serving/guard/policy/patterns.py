"""Words and patterns, matched by RE2: in time linear in the text, whatever the pattern and the text are.

Both are read with look-alike letters folded, so that an accent or a full-width letter hides no word. For masks in a
stream a pattern's *beginnings* are compiled too: where one runs up to the end of what is known, a match may yet come.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as sre_parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

import re2

from serving.guard.text.folding import fold

MAX_MASKED_CHARS = 256
"""Longest match of a pattern that masks answers: so much of a stream may be held back."""

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 8 << 20

_CATEGORIES = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}
_BOUNDARIES = {sre.AT_BOUNDARY: r"\b", sre.AT_NON_BOUNDARY: r"\B"}
_GAP = r"\s{1,3}"


class PatternError(ValueError):
    """A pattern cannot be used; `str()` is one line."""


class Words(NamedTuple):
    """What one principle looks for."""

    words: Sequence[str]
    patterns: Sequence[str] = ()


class Finder(NamedTuple):
    """Finds what several principles look for."""

    match: Any
    beginning: Any
    """Matches where a match may have begun that the end of the text cuts off; None where that was not asked for."""
    groups: Sequence[int] = ()
    """The group of each principle in `match`."""

    def whose(self, match: Any) -> int:
        """Which of the principles a match is of."""
        return next(number for number, group in enumerate(self.groups) if match.start(group) >= 0)


def readable(text: str) -> str:
    """The text as patterns read it: what looks like ASCII is, other letters stay. As long as `text`."""
    if text.isascii():
        return text
    # The guard's fold writes x for letters that are not Latin, which its detectors take for any letter.
    return "".join(char if plain == "x" else plain for char, plain in zip(text, fold(text), strict=True))


@lru_cache(maxsize=1024)
def compile_re2(pattern: str) -> Any:
    """Raises: PatternError."""
    try:
        return re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        said = error.args[0].decode("utf-8", "replace") if error.args else "it cannot be compiled"
        raise PatternError(f"pattern {pattern[:80]!r}: {said}; patterns are RE2's, without look-around") from None


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> Any:
    """A pattern that finds something. Raises: PatternError."""
    compiled = compile_re2(pattern)
    if compiled.search("") is not None:
        raise PatternError(f"pattern {pattern[:80]!r}: it matches the empty text")
    return compiled


def compile_words(words: Words, *, bounded: bool = False) -> Finder:
    """A finder for one principle. Raises: PatternError."""
    return compile_all([words], bounded=bounded)


def compile_all(all_words: Sequence[Words], *, bounded: bool = False) -> Finder:
    """One finder for several principles: of matches that begin at one place the first principle's counts.

    `bounded`: with beginnings, for a stream.

    Raises:
        PatternError: too large together, or of a form whose beginnings are not known.
    """
    alternatives = [_alternatives(words) for words in all_words]
    written = ["|".join(f"(?:{pattern})" for pattern in patterns) for patterns in alternatives]
    match = compile_pattern("|".join(f"({pattern})" for pattern in written))
    # A pattern may have groups of its own.
    sizes = [compile_pattern(pattern).groups + 1 for pattern in written]
    groups = list(accumulate(sizes[:-1], initial=1))
    if not bounded:
        return Finder(match, None, groups)
    beginnings = [_beginning(pattern) for patterns in alternatives for pattern in patterns]
    try:
        return Finder(match, re2.compile(f"(?:{'|'.join(beginnings)})\\z", _OPTIONS), groups)
    except re2.error:
        raise PatternError("the patterns that mask answers are too large together") from None


def _alternatives(words: Words) -> list[str]:
    # The longest word first: RE2 takes the first alternative, as Perl does.
    literals = [_literal(readable(word)) for word in sorted(words.words, key=len, reverse=True)]
    return literals + [readable(pattern) for pattern in words.patterns]


def _literal(word: str) -> str:
    """A word or phrase in any case, whole where its edges are letters that RE2 knows the boundaries of."""
    parts = word.split()
    if not parts:
        raise PatternError("a word must not be empty")
    left, right = (r"\b" if re.fullmatch(r"[A-Za-z0-9_]", edge) else "" for edge in (word.strip()[0], word.strip()[-1]))
    return f"(?i:{left}{_GAP.join(map(re.escape, parts))}{right})"


def _beginning(pattern: str) -> str:
    """A pattern for every beginning of what `pattern` matches, the whole of it too."""
    try:
        parsed = sre_parser.parse(pattern)
    except (re.error, OverflowError, RecursionError):
        raise PatternError(
            f"pattern {pattern[:80]!r}: masks of answers need a form that Python's re knows too"
        ) from None
    longest = parsed.getwidth()[1]
    if longest > MAX_MASKED_CHARS:
        raise PatternError(
            f"pattern {pattern[:80]!r}: a match may be longer than {MAX_MASKED_CHARS} characters; "
            "give repetitions an upper bound, as in {1,20}"
        )
    written = _Beginnings(pattern).sequence(list(parsed))
    return f"(?i:{written})" if parsed.state.flags & re.IGNORECASE else written


class _Beginnings:
    """Writes parsed patterns out again: whole, and as all of their beginnings."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    def sequence(self, items: Sequence[Any]) -> str:
        """Beginnings of one item after the other."""
        if not items:
            return ""
        first, rest = items[0], self.sequence(items[1:])
        return f"(?:{self._of(*first)}|{self._whole(*first)}{rest})"

    def _of(self, op: Any, value: Any) -> str:
        if op is sre.AT:
            return ""  # what comes next decides
        if op is sre.BRANCH:
            return "|".join(self.sequence(list(branch)) for branch in value[1])
        if op is sre.SUBPATTERN:
            return self._flagged(value, self.sequence(list(value[3])))
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            _, most, inner = value
            before = f"(?:{self._wholes(list(inner))}){{0,{most - 1}}}" if most > 1 else ""
            return f"{before}{self.sequence(list(inner))}" if most else ""
        return f"(?:{self._whole(op, value)})?"

    def _wholes(self, items: Sequence[Any]) -> str:
        return "".join(self._whole(*item) for item in items)

    def _whole(self, op: Any, value: Any) -> str:
        if op is sre.LITERAL:
            return re.escape(chr(value))
        if op is sre.NOT_LITERAL:
            return f"[^{_in_class(chr(value))}]"
        if op is sre.ANY:
            return "(?s:.)"
        if op is sre.IN:
            return self._class(value)
        if op is sre.AT and value in _BOUNDARIES:
            return _BOUNDARIES[value]
        if op is sre.BRANCH:
            return f"(?:{'|'.join(self._wholes(list(branch)) for branch in value[1])})"
        if op is sre.SUBPATTERN:
            return self._flagged(value, self._wholes(list(value[3])))
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            least, most, inner = value
            return f"(?:{self._wholes(list(inner))}){{{least},{most}}}"
        raise PatternError(f"pattern {self._pattern[:80]!r}: masks of answers take no anchors and no look-around")

    def _flagged(self, value: Any, inner: str) -> str:
        return f"(?i:{inner})" if value[1] & re.IGNORECASE else f"(?:{inner})"

    def _class(self, items: Sequence[Any]) -> str:
        written = ""
        for op, value in items:
            if op is sre.NEGATE:
                written += "^"
            elif op is sre.LITERAL:
                written += _in_class(chr(value))
            elif op is sre.RANGE:
                written += f"{_in_class(chr(value[0]))}-{_in_class(chr(value[1]))}"
            else:
                written += _CATEGORIES[value]
        return f"[{written}]"


def _in_class(char: str) -> str:
    return f"\\{char}" if char in r"\]^-[" else char
