"""Where a key may begin: one sieve for the vendors' shapes and for the cues of secrets that have none."""

from __future__ import annotations

from serving.guard.detectors.growing import whole
from serving.guard.detectors.key_shapes import AGE_KEYS, API_KEYS, Shape
from serving.guard.detectors.sieve import LEFT, Sieve

BEARER_CUE = r"[Bb](?:earer|EARER)[ \t]{1,4}"
AWS_CUE = r"[Ss](?:ecret|ECRET)[_ -]?(?:access|Access|ACCESS)[_ -]?(?:key|Key|KEY)[\"' \t:=]{1,8}"


def _begun(shape: Shape) -> str:
    """Parts of a shape and two characters behind them: few positions have that, and it takes RE2 few states."""
    return whole((*shape.parts, (shape.chars, min(2, shape.least), 2)))


KEYS = Sieve(
    rf"{LEFT}(?:{'|'.join(map(_begun, (*API_KEYS, *AGE_KEYS)))})",
    rf"{LEFT}(?:sk-|eyJ)[A-Za-z0-9_-]{{2}}",
    BEARER_CUE,
    AWS_CUE,
    r"[Bb](?:asic|ASIC)[ \t]",
    # RE2's white space is ASCII's, and other characters are `?` in a sieve.
    r"auth\\{0,2}[\"']?[\s\x0b\x1c-\x1f?]{0,2}[:=]",
)
"""Also the JSON escape before it, and the cues."""
