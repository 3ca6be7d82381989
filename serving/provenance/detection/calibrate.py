"""Learns from a deployment's own unmarked text by how much each key's scores deviate from fresh text's.

Text of one kind repeats itself: a phrase that comes in every letter brings its draws along, so under one key all
letters score a little high and under another a little low. What is found for a key is applied to its scores before they
are judged, with two standard errors on the safe side.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from serving.provenance.adjustment import Adjustment
from serving.provenance.detection.null import NULLS
from serving.provenance.mark_key import MarkKey
from serving.provenance.schemes import DEFAULT_SCHEME, SCHEMES

# Fewer tell nothing about how much windows differ.
FEWEST_WINDOWS = 50
WINDOW_TOKENS = 200
SAFE_ERRORS = 2.0


def windows_of(token_ids: Sequence[int], size: int = WINDOW_TOKENS) -> list[Sequence[int]]:
    """The text cut into windows, the rest left out."""
    return [token_ids[first : first + size] for first in range(0, len(token_ids) - size + 1, size)]


def calibrate(
    windows: Iterable[Sequence[int]],
    keys: Sequence[MarkKey],
    tokenizer: str,
    scheme: str = DEFAULT_SCHEME,
) -> list[Adjustment]:
    """An adjustment of each key. Raises ValueError for too little text.

    The windows are unmarked, and as long as the texts to be judged later; `tokenizer` is the digest of what cut them.
    """
    reader = SCHEMES[scheme]
    seeds = [key.seed_for(scheme) for key in keys]
    sums, lengths = [], []
    for window in windows:
        pairs = reader.pairs(window)
        if len(pairs):
            sums.append(reader.token_scores(seeds, pairs).sum(axis=1))
            lengths.append(len(pairs))
    if len(sums) < FEWEST_WINDOWS:
        raise ValueError(f"{len(sums)} windows are too few to calibrate with: give {FEWEST_WINDOWS} at least")
    shifts, spreads = _fit(np.array(sums), np.array(lengths, np.float64), scheme)
    now = int(time.time())
    return [
        Adjustment(key.id, scheme, tokenizer, shift, spread, len(lengths), int(sum(lengths)), now)
        for key, shift, spread in zip(keys, shifts.tolist(), spreads.tolist(), strict=True)
    ]


def _fit(
    sums: NDArray[np.float64], lengths: NDArray[np.float64], scheme: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """sums [windows, K], lengths [windows]. Returns shift and spread [K]."""
    null = NULLS[scheme]
    num_windows = len(lengths)
    mean = sums.sum(axis=0) / lengths.sum()
    residuals = (sums - lengths[:, None] * mean) / np.sqrt(null.variance * lengths)[:, None]
    spread = np.square(residuals).sum(axis=0) / (num_windows - 1)
    error = np.sqrt(null.variance * np.maximum(spread, 1) / lengths.sum())
    shift = np.maximum(mean - null.mean + SAFE_ERRORS * error, 0)
    return shift, np.maximum(spread * (1 + SAFE_ERRORS * math.sqrt(2 / num_windows)), 1)
