"""Tells whether a text carries a mark, and whose: exact p-values over any number of keys."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer

from serving.provenance.keyring import MarkKey
from serving.provenance.schemes import SCHEMES

# At this level one unmarked text in a thousand is called marked, whatever the number of keys tried.
DEFAULT_THRESHOLD = 1e-3
# Bounds the memory of one round: keys x tokens draws, about 100 bytes each while they are hashed.
DRAWS_PER_ROUND = 200_000


@dataclass(frozen=True, slots=True)
class KeyScore:
    """What one key says about the text. `p_value` is that of this key alone, not corrected for trying others."""

    key_id: str
    tenant: str
    score: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Detection:
    """`p_value` is corrected for the number of keys; `key_id` and `tenant` name the key only where it is marked."""

    marked: bool
    p_value: float
    tokens_scored: int
    key_id: str | None
    tenant: str | None
    per_key: list[KeyScore] = field(repr=False)


def detect(token_ids: Sequence[int], keys: Sequence[MarkKey], threshold: float = DEFAULT_THRESHOLD) -> Detection:
    """Score tokens against every key; marked where the corrected p-value is below the threshold.

    The correction is Sidak's, 1 - (1 - p) ** K, exact for independent keys.
    """
    scheme = SCHEMES["gumbel"]
    tokens = scheme.pairs(token_ids)
    found = [
        KeyScore(key.id, key.tenant, float(score), _probability(scheme.log_p_value(float(score), len(tokens))))
        for batch in _rounds(keys, len(tokens))
        for key, score in zip(batch, scheme.token_scores([key.seed for key in batch], tokens).sum(axis=1), strict=True)
    ]
    if not found or len(tokens) == 0:
        return Detection(False, 1.0, len(tokens), None, None, found)
    best = max(found, key=lambda key_score: key_score.score)
    corrected = -math.expm1(len(found) * math.log1p(-best.p_value)) if best.p_value < 1 else 1.0
    marked = corrected < threshold
    return Detection(
        marked, corrected, len(tokens), best.key_id if marked else None, best.tenant if marked else None, found
    )


class Detector:
    """A detector for the answers of models with this tokenizer."""

    def __init__(self, tokenizer_folder: Path, threshold: float = DEFAULT_THRESHOLD) -> None:
        """Read `tokenizer.json` from a checkpoint's folder. Raises ValueError where there is none that can be read."""
        file = tokenizer_folder / "tokenizer.json"
        if not file.is_file():
            raise ValueError(f"{tokenizer_folder} holds no tokenizer.json: give the folder of a checkpoint")
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"{file} cannot be read: {error}") from None
        self.threshold = threshold

    def token_ids(self, text: str) -> list[int]:
        """The tokens a model would have had to produce for the text: no beginning or end marks are added."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def detect_text(self, text: str, keys: Sequence[MarkKey]) -> Detection:
        """As `detect`, from text; a text cut from the middle of an answer loses its first four tokens as evidence."""
        return detect(self.token_ids(text), keys, self.threshold)


def _rounds(keys: Sequence[MarkKey], num_tokens: int) -> list[Sequence[MarkKey]]:
    size = max(1, DRAWS_PER_ROUND // max(1, num_tokens))
    return [keys[first : first + size] for first in range(0, len(keys), size)]


def _probability(log_p: float) -> float:
    """Keep it above zero: an exact 0 would claim certainty where floating point merely ends."""
    return max(math.exp(log_p), sys.float_info.min)
