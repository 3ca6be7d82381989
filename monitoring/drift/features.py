"""The features of an answer that are watched: numbers of its row in the ledger, no text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from monitoring.drift.sketch import Grid, Values

_NAN = math.nan


class Answer(NamedTuple):
    """What the ledger has of one answer, or of one rating; NaN: not known of it."""

    row: int
    """Its row's number in its table."""
    created_at: float
    """Unix seconds."""
    model: str
    version: str
    """Digest of the checkpoint that answered, `sha256:HEX`; empty: not recorded."""
    prompt_tokens: float = _NAN
    completion_tokens: float = _NAN
    answer_chars: float = _NAN
    refused: float = _NAN
    guarded: float = _NAN
    marked: float = _NAN
    truncated: float = _NAN
    first_token_s: float = _NAN
    duration_s: float = _NAN
    rating: float = _NAN


class Feature(NamedTuple):
    """One watched number."""

    name: str
    grid: Grid
    read: Callable[[Answer], float]


def _chars_per_token(answer: Answer) -> float:
    return answer.answer_chars / answer.completion_tokens if answer.completion_tokens > 0 else _NAN


def _token_s(answer: Answer) -> float:
    started = 0.0 if math.isnan(answer.first_token_s) else answer.first_token_s
    return (answer.duration_s - started) / answer.completion_tokens if answer.completion_tokens > 0 else _NAN


FEATURES = (
    Feature("prompt_tokens", Grid("size"), lambda answer: answer.prompt_tokens),
    Feature("completion_tokens", Grid("size"), lambda answer: answer.completion_tokens),
    # A tokenizer cuts other languages, other scripts and code into pieces of another length.
    Feature("chars_per_token", Grid("size", unit=0.05), _chars_per_token),
    Feature("refusal_rate", Grid("flag"), lambda answer: answer.refused),
    Feature("guard_hit_rate", Grid("flag"), lambda answer: answer.guarded),
    Feature("mark_rate", Grid("flag"), lambda answer: answer.marked),
    Feature("truncation_rate", Grid("flag"), lambda answer: answer.truncated),
    Feature("first_token_seconds", Grid("size", unit=0.001), lambda answer: answer.first_token_s),
    Feature("token_seconds", Grid("size", unit=0.0001), _token_s),
    Feature("rating", Grid("level", low=-1.0, high=1.0), lambda answer: answer.rating),
)
FEATURE_NAMES = tuple(feature.name for feature in FEATURES)


def values_of(answers: Sequence[Answer]) -> list[Values]:
    """An array for each feature, with a value for each answer."""
    return [np.array([feature.read(answer) for answer in answers], dtype=np.float64) for feature in FEATURES]
