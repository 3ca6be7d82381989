"""Looks into encoded text in requests: base64, hexadecimal, percent signs, HTML entities; also two of them, nested.

A run that decodes to readable text is looked at as that text would be. When there is something to mask or a control
token in it, the run as a whole is dealt with: nobody could read the rest of it anyway. Others stay as they are.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import unescape
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from serving.guard.detector import Detector
from serving.guard.detectors.sieve import Sieve, one_byte_each
from serving.guard.outcome import Action, GuardReport
from serving.guard.question.control import ControlTokens
from serving.guard.text.stream import StreamCleaner
from serving.guard.text.values import Vault

MAX_DEPTH = 2
"""Encodings one in the other that are looked through. Each is as long as what it encodes at least: time is linear."""
MAX_RUNS = 10_000
"""Runs of one text that are looked into, readable or not."""

_BASE64 = re.compile(
    # A line ends a run unless another follows: else each line would look through all lines after it.
    r"(?<![A-Za-z0-9+/_=-])"
    r"(?:(?>(?:[A-Za-z0-9+/]{60,76}\r?\n(?=[A-Za-z0-9+/]))+)[A-Za-z0-9+/]{1,76}+|[A-Za-z0-9+/_-]{11,}+)={0,2}"
)
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:0x|\\x)?[0-9A-Fa-f]{2}(?>(?:(?:\\x|[ :-])?[0-9A-Fa-f]{2}){5,})(?![0-9A-Za-z])")
_PERCENT = re.compile(r"(?<![\w.~%+-])[\w.~+-]*+(?>(?:%[0-9A-Fa-f]{2}[\w.~+-]*+)+)")
_ENTITIES = re.compile(
    r"(?<![^\s\"'()])[^\s\"'()&]*+(?>(?:&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,31});[^\s\"'()&]*+)+)"
)
_NOT_HEX = re.compile(r"\\x|0x|[ :-]")
_READABLE = re.compile(r"[^\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]+")


def _base64(run: str) -> bytes:
    if run[1:].islower() and run.isalpha():
        raise ValueError("a word")
    compact = run.translate(_TO_STANDARD).rstrip("=")
    return b64decode(compact + "=" * (-len(compact) % 4), validate=True)


_TO_STANDARD = str.maketrans({"-": "+", "_": "/", "\r": None, "\n": None})


class _Kind(NamedTuple):
    """One encoding."""

    sieve: Sieve
    """What a run has in it. Most texts have nothing of it, which takes a tenth of the time to see."""
    before: int
    """Most characters of a run before that; -1: any number."""
    shape: re.Pattern[str]
    decode: Callable[[str], bytes]

    def runs(self, text: str) -> Iterator[re.Match[str]]:
        """The runs of a text, from left to right."""
        done = 0
        data = one_byte_each(text)
        for _ in range(MAX_RUNS):
            place = self.sieve.find(data, done)
            if place < 0:
                return
            run = self.shape.search(text, done if self.before < 0 else max(done, place - self.before))
            if run is None:
                return
            yield run
            done = run.end()


_KINDS = (
    _Kind(Sieve("&(?:#[0-9xX]|[A-Za-z]{2})"), -1, _ENTITIES, lambda run: unescape(run).encode("utf-8", "replace")),
    _Kind(Sieve("%[0-9A-Fa-f]{2}"), -1, _PERCENT, unquote_to_bytes),
    _Kind(
        Sieve(r"[0-9A-Fa-f]{2}(?:(?:\\x|[ :-])?[0-9A-Fa-f]{2}){5}"),
        len("0x"),
        _HEX,
        lambda run: bytes.fromhex(_NOT_HEX.sub("", run)),
    ),
    _Kind(Sieve("[A-Za-z0-9+/_-]{11}"), 0, _BASE64, _base64),
)


class EncodedText:
    """Looks with one set of detectors and control tokens."""

    def __init__(self, detectors: Sequence[Detector], actions: Mapping[str, Action], tokens: ControlTokens) -> None:
        self._detectors = detectors
        self._actions = actions
        self._tokens = tokens

    def clean(self, text: str, report: GuardReport, vault: Vault | None, *, inert: bool) -> str:
        """`text` with the runs replaced that hide something; `inert`: control tokens count."""
        for kind in _KINDS:
            pieces: list[str] = []
            done = 0
            for run in kind.runs(text):
                hidden = self._hidden(run.group(), kind.decode, inert, MAX_DEPTH)
                if hidden is None:
                    continue
                what, action = hidden
                report.add(what, action)
                placeholder = vault.placeholder(what, run.group()) if action == "pseudonymize" and vault else None
                pieces += (text[done : run.start()], placeholder or f"[{what.upper()}]")
                done = run.end()
            text = "".join(pieces) + text[done:] if pieces else text
        return text

    def _hidden(self, run: str, decode: Callable[[str], bytes], inert: bool, depth: int) -> tuple[str, Action] | None:
        """What a run hides and what is to be done about it."""
        text = _readable(run, decode)
        if text is None or text == run:
            return None
        cleaner = StreamCleaner(self._detectors)
        cleaner.whole(text)
        masked = [what for what, action in cleaner.report.counts if action == "mask"]
        if masked:
            what = next((entity for entity in masked if self._actions[entity] == "block"), masked[0])
            return what, self._actions[what]
        if inert and self._tokens.inert(text)[1]:
            return "control_token", "mask"
        return self._nested(text, inert, depth - 1) if depth > 1 else None

    def _nested(self, text: str, inert: bool, depth: int) -> tuple[str, Action] | None:
        for kind in _KINDS:
            for run in kind.runs(text):
                if (hidden := self._hidden(run.group(), kind.decode, inert, depth)) is not None:
                    return hidden
        return None


def _readable(run: str, decode: Callable[[str], bytes]) -> str | None:
    """What a run says; None when that is no text."""
    try:
        text = decode(run).decode()
    except (ValueError, binascii.Error):
        return None
    return text if _READABLE.fullmatch(text) else None
