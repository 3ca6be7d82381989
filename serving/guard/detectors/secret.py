"""Secrets that only the words before them give away: `password=`, `"client_secret": "…"`, `AccountKey=…`.

A value must not look like a word or a name of code: a password holds a digit or sign among its first characters, a
token is sixteen characters of which most differ. Values of letters alone pass, or `password: required` would be one.
"""

from __future__ import annotations

import re

from serving.guard.detector import Span
from serving.guard.detectors.cued import CuedValue
from serving.guard.detectors.growing import Run
from serving.guard.detectors.sieve import Sieve, matches

_IS = r"\\{0,2}[\"'`]?(?:\s{0,3}(?::=|=>|=|:)\s{0,3}|\s{1,3}(?:is|lautet|es|est)(?:\s{0,3}:)?\s{1,3})\\{0,2}[\"'`]?"
_CHARS = "A-Za-z0-9._~+/@$%^&-"
_REST = Run("A-Za-z0-9_~+/@$%^&=-", ".!?#*")
_UNDECIDED = re.compile(rf"[{_CHARS}]{{0,23}}\Z")
_NOT_A_VALUE = r"(?![$%&/~.*@^-])"
"""What stands for a value: `$VAR`, `%s`, a path, `****`."""

_LOGIN_WORDS = "passwor[dt]|passwd|passphrase|pwd|kennwort|contrasena|mot de passe"
_PASSWORD_CUE = re.compile(rf"(?:{_LOGIN_WORDS}){_IS}", re.IGNORECASE)
_PASSWORD = re.compile(rf"{_NOT_A_VALUE}(?=[A-Za-z._-]{{0,23}}[0-9@$%^&~+/])[{_CHARS}]{{6}}")

_KEYS = "api|app|access|account|auth|client|encryption|private|secret|signing"
_TOKEN_WORDS = rf"secret|token|(?:{_KEYS})[_ -]?key"
_TOKEN_CUE = re.compile(rf"(?:{_TOKEN_WORDS}){_IS}", re.IGNORECASE)
_TOKEN = re.compile(rf"{_NOT_A_VALUE}(?=[A-Za-z._~+/-]{{0,15}}[0-9])(?=[0-9._~+/-]{{0,15}}[A-Za-z])[{_CHARS}]{{16}}")
_MAX_CUE = 64
# Cues with what follows them first. RE2's white space is ASCII's, and other characters are `?` in a sieve.
_SPACE = r"[\s\x0b\x1c-\x1f?]"
_SIEVE = Sieve(
    rf"(?i:(?:{_LOGIN_WORDS}|{_TOKEN_WORDS})\\{{0,2}}[\"'`]?(?:{_SPACE}{{0,3}}[:=]|{_SPACE}{{1,3}}(?:is|lautet|es)))"
)
_LEAST_DIFFERENT = 9
"""Of sixteen random letters and digits, hardly ever fewer differ; of words and paths, often."""


class CuedSecrets:
    """What follows a cue: certain after its first characters, and then swallowed to its end."""

    skips_plain_words = True

    def __init__(
        self,
        entity: str,
        cue: re.Pattern[str],
        value: re.Pattern[str],
        least_different: int = 1,
    ) -> None:
        self.entity = entity
        self._cue = cue
        self._behind = CuedValue(value, _UNDECIDED, _REST, lambda begun: len(set(begun)) >= least_different)

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        return self._behind.scan(self._begins(text, start), text, start, final)

    def _begins(self, text: str, start: int) -> list[int]:
        """Where what follows a cue begins."""
        return sorted({cue.end() for cue in matches(self._cue, text, _SIEVE.places(text), start - _MAX_CUE)})


def passwords() -> CuedSecrets:
    return CuedSecrets("PASSWORD", _PASSWORD_CUE, _PASSWORD)


def tokens() -> CuedSecrets:
    return CuedSecrets("API_KEY", _TOKEN_CUE, _TOKEN, _LEAST_DIFFERENT)
