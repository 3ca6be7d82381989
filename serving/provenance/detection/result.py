"""What a detector answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["marked", "not_marked", "cannot_tell"]


@dataclass(frozen=True, slots=True)
class KeyScore:
    """What one key says about the text, by the scheme that fits best.

    `p_value` is that of this key and scheme alone, not corrected for trying others.
    """

    key_id: str
    tenant: str
    score: float
    p_value: float
    scheme: str = "gumbel"
    model: str | None = None
    revoked: bool = False
    calibrated: bool = False


@dataclass(frozen=True, slots=True)
class MarkedSpan:
    """A marked part of the text; `p_value` is corrected for every place, key and scheme that was searched."""

    first_token: int
    num_tokens: int
    p_value: float
    key_id: str
    tenant: str
    scheme: str = "gumbel"
    model: str | None = None
    revoked: bool = False
    start: int | None = None
    """In characters, where the text is known; `end` is the first character behind the span."""
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Detection:
    """`p_value` is corrected for all that was tried; the key's fields name it only where the text is marked."""

    marked: bool
    p_value: float
    tokens_scored: int
    key_id: str | None
    tenant: str | None
    per_key: list[KeyScore] = field(repr=False)
    """The best keys, best first: at most `MOST_KEYS_SHOWN`."""
    verdict: Verdict = "cannot_tell"
    power: float = 0.0
    """The chance that a text like this one would be found if it were marked by the first scheme tried."""
    powers: dict[str, float] = field(default_factory=dict)
    """The same of every scheme tried."""
    power_temperature: float | None = None
    """The temperature for which they hold; None: for text of the stated entropy, whatever made it so."""
    keys_tried: int = 0
    scheme: str | None = None
    model: str | None = None
    revoked: bool = False
    calibrated: bool = False
    """Whether the best key's scores were adjusted to the deployment's own unmarked text."""
    weighted: bool = False
    """Whether tokens were weighted by their probabilities."""
    spans: list[MarkedSpan] = field(default_factory=list)
