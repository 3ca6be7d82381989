"""What a key's scores of a deployment's own unmarked text turned out to be, beside what they are of fresh text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

Subject = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Adjustment:
    """How one key's scores on own unmarked windows differ from the scheme's null.

    `shift` is the excess of the mean score of a token, `spread` the variance of a window's score over the null's:
    phrases that come again and again bring their draws along. Neither may make a text look better marked: they are at
    least 0 and 1.
    """

    key_id: str
    scheme: str
    tokenizer: str
    """Digest of the tokenizer's file: other tokens are other draws."""
    shift: float
    spread: float
    windows: int
    tokens: int
    """In all windows together."""
    made_at: int

    def __post_init__(self) -> None:
        if not (0 <= self.shift < 1e6 and 1 <= self.spread < 1e6):
            raise ValueError("an adjustment makes no text look better marked: shift 0, spread 1 or more")

    @property
    def subject(self) -> Subject:
        """What it applies to."""
        return self.key_id, self.scheme, self.tokenizer

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
