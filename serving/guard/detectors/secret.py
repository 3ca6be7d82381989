"""Secrets that only what stands before them gives away: `password=`, `"client_secret": "…"`, `--password …`, `curl -u`.

A value must not look like a word or like code: a password holds a digit or sign among its first characters, a token is
sixteen characters of which most differ, and neither goes on as a call, an index, a chain of attributes or a path.
Values of letters alone pass, or `password: required` would be one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from operator import itemgetter
from typing import NamedTuple

from serving.guard.detector import Span
from serving.guard.detectors.growing import CuedValue, Run, scan_cued
from serving.guard.detectors.secret_words import (
    FOREIGN_IS,
    FOREIGN_STARTS,
    FOREIGN_WORDS,
    IS_WORDS,
    KEY_WORDS,
    LOGIN_WORDS,
    SECRETS,
    WEAK_WORDS,
)
from serving.guard.detectors.sieve import matches

_QUOTE = r"(?:\\{0,2}[\"'`])"
_SIGN = r"\s{0,3}(?::=|=>|=|:)(?:\s{0,3}|[ \t]{1,24})"
_WORD = rf"\s{{1,3}}(?:{IS_WORDS})(?:\s{{0,3}}:)?\s{{1,3}}"
_VALUE_KEY = rf"{_QUOTE}?,?\s{{1,24}}{_QUOTE}?(?i:value){_QUOTE}?\s?[:=]\s?{_QUOTE}?"
_ARGUMENT = rf"(?<=[A-Z]{{4}}){_QUOTE}\s?,\s?{_QUOTE}"
_DASH = r"(?<=[Aa][Rr][Oo][Ll]x)\s-\s"
_IS = rf"(?:{_QUOTE}?(?:{_SIGN}|{_WORD}){_QUOTE}?|>|{_VALUE_KEY}|{_ARGUMENT}|{_DASH})!?"
"""Also of XML's elements, of lists of names and values, of arguments in quotes; a dash in Russian."""

_OPTION = (
    r"--?(?i:pass(?:word|wd|phrase)?|pw|pwd)(?:[ \t]{1,2}|=)[\"']?"
    r"|sshpass[ \t]{1,2}-p[ \t]?[\"']?"
    r"|mysql(?:dump|admin)?\b[^\n|]{0,56}?[ \t]-p[\"']?|docker login\b[^\n|]{0,56}?[ \t]-p[ =][\"']?"
)
_NETRC = r"login[ \t\n]{1,4}\S{1,64}[ \t\n]{1,4}password[ \t\n]{1,4}"
_PASSWORD_CUE = re.compile(rf"(?:(?i:{LOGIN_WORDS})|{WEAK_WORDS}){_IS}|{_OPTION}|{_NETRC}")
_KEY_OPTION = r"-(?i:token|api-key|secret)[ =][\"']?"
_KEY_CUE = re.compile(rf"(?i:{KEY_WORDS})(?:{_IS}|[ \t]{{1,2}}(?=[\"']))(?i:base64:|hex:)?|{_KEY_OPTION}")
_FOREIGN_CUE = re.compile(rf"(?:{FOREIGN_WORDS})\s{{0,2}}[{FOREIGN_IS}:=]{{1,2}}\s{{0,2}}(?:{_QUOTE}|\u300c)?")

_CHARS = "A-Za-z0-9._~+/@$%^&-"
_INNER = "!?#*"
_MOST = 64
_BEHIND = 6
"""Characters of a value, and behind it, that are read before it is decided."""
_UNDECIDED = re.compile(
    rf"[=>:\\{_INNER}{_CHARS}]{{0,{_MOST + _BEHIND}}}(?:[^=>:\\{_INNER}{_CHARS}].{{0,{_BEHIND - 2}}})?\Z", re.DOTALL
)
_REST = Run("A-Za-z0-9_~+/@$%^&=-", ".!?#*")
_READ = rf"[{_CHARS}](?:[={_CHARS}]|[{_INNER}]+(?=[{_CHARS}])){{5,{_MOST - 1}}}"
_NO_VALUE = (
    r"[$%&/~.*@^-]"  # `$VAR`, `%s`, a path, `****`
    r"|[A-Za-z][A-Za-z0-9+.-]{1,9}://"
    r"|(?:[A-Za-z_.-]+\d{0,4}[/\\])+[A-Za-z_.-]*\d{0,4}(?![\w+=/])"  # a path
    r"|(?i:your|enter|insert|replace|placeholder|redacted|masked|example[-_.]|a1b2c3)"
    r"|(?:example|my|sample|test)(?=[A-Z])"
    r"|(?i:sha-?\d|md5|[hrep]s\d{3}\b|aes-?\d|utf-?\d|base\d\d|argon2|pbkdf2|bcrypt|scram|u?int\d|x25519|ed25519|oauth2?\b)"
)
_NAME = r"[A-Za-z_]\w*"
_CHAIN = rf"{_NAME}(?:(?:\.|->|::|\?\.){_NAME})"
_CODE = (
    rf"{_CHAIN}*[(\[]"  # a call, an index
    rf"|{_CHAIN}+(?![\w!@#$%^&*+=~.-])"  # a chain of attributes
    rf"|{_NAME} (?:[+%?*]|[=!]=|if\b|\|\|)[ \w\"']"
    r"|\w*(?i:pass|passwd|password|pwd|secret|token|key|hash)_?\d?(?=\s?[),\]])"
)
_STARTS = r"(?=[A-Za-z._-]{0,23}[0-9@$%^&~+/])"
_BARE = re.compile(rf"(?!{_NO_VALUE}|{_CODE}){_STARTS}{_READ}")
_QUOTED = re.compile(rf"(?!{_NO_VALUE}){_STARTS}{_READ}(?! [A-Za-z])")
"""In quotes code is none, and what goes on after a space is a sentence."""

_MIXED = r"(?=[A-Za-z._~+/-]{0,15}[0-9])(?=[0-9._~+/-]{0,15}[A-Za-z])"
_WORDS = r"[A-Za-z]+\d{0,4}(?:[-_./](?:[A-Za-z]+\d{0,4}|\d{1,4}))+(?![\w+=/.-])"
_NO_DIGEST = r"[0-9a-f]{16,19}(?![0-9A-Za-z])"
_TOKEN = re.compile(rf"(?!{_NO_VALUE}|{_CODE}|{_WORDS}|{_NO_DIGEST}){_MIXED}[{_CHARS}]{{16}}")
_MAX_CUE = 80
_LEAST_DIFFERENT = 9
"""Of sixteen random letters and digits, hardly ever fewer differ; of words and paths, often."""


class _Cue(NamedTuple):
    """What announces values, and how they begin bare and in quotes."""

    words: re.Pattern[str]
    foreign: re.Pattern[str] | None
    bare: CuedValue
    quoted: CuedValue


class CuedSecrets:
    """What follows a cue: certain after its first characters, and then swallowed to its end."""

    skips_plain_words = True

    def __init__(self, entity: str, cue: _Cue) -> None:
        self.entity = entity
        self._cue = cue

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        begins = dict(self._begins(text, start))
        return scan_cued(sorted(begins.items(), key=itemgetter(0)), text, start, final)

    def _begins(self, text: str, start: int) -> Iterator[tuple[int, CuedValue]]:
        """Where what follows a cue begins, and what it may be."""
        for cue in matches(self._cue.words, text, SECRETS.positions(text), start - _MAX_CUE):
            yield cue.end(), self._cue.quoted if cue.group()[-1:] in _QUOTES else self._cue.bare
        if self._cue.foreign is not None and not text.isascii() and any(word in text for word in FOREIGN_STARTS):
            for cue in self._cue.foreign.finditer(text, max(0, start - _MAX_CUE)):
                yield cue.end(), self._cue.bare


_QUOTES = frozenset("\"'`")


def _value(pattern: re.Pattern[str], least_different: int = 1) -> CuedValue:
    return CuedValue(
        pattern, _UNDECIDED, _REST, lambda begun: len(set(begun)) >= least_different, reads=_MOST + _BEHIND
    )


def passwords() -> CuedSecrets:
    return CuedSecrets("PASSWORD", _Cue(_PASSWORD_CUE, _FOREIGN_CUE, _value(_BARE), _value(_QUOTED)))


def tokens() -> CuedSecrets:
    token = _value(_TOKEN, _LEAST_DIFFERENT)
    return CuedSecrets("API_KEY", _Cue(_KEY_CUE, None, token, token))
