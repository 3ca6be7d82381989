"""What detection says of human text: false alarms by key, false claims among all keys, and what calibration changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma

from serving.provenance import MarkKey
from serving.provenance.adjustment import Adjustment
from serving.provenance.detection import detect
from serving.provenance.detection.calibrate import calibrate, windows_of
from serving.provenance.detection.null import NULLS
from serving.provenance.detection.power import critical_score
from serving.provenance.schemes import SCHEMES, Pairs, Scheme, synthid
from training.studies.marks.detection_study import GUMBEL, WINDOW, Study, progress
from training.studies.sections import table_head

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

STRIDE = 3
LEVELS = (1e-2, 1e-3, 1e-5)
# Schemes whose scores take any value, so that each level is met exactly.
CONTINUOUS = frozenset({"gumbel", "dual-gumbel"})
# For false claims: windows of this length, one begun at each quarter of it.
CLAIM_TOKENS = 400
CLAIM_LEVEL = 1e-3
KEYS_AT_A_TIME = 32


def false_alarms(study: Study, num_keys: int) -> None:
    """Every window of human text under every key and scheme, as `detect` scores it, without a round for each window."""
    ids, keys = study.human, study.keys[:num_keys]
    starts = np.arange(GUMBEL.context_width, len(ids) - WINDOW, STRIDE)
    study.lines += [
        f"### False alarms: {len(starts)} windows of {WINDOW} tokens of human text x {len(keys)} keys",
        "",
        *table_head("scheme", "stated", "measured", "99% interval", "by key: lowest, median, highest"),
    ]
    for scheme in SCHEMES.values():
        rates = alarm_rates(scheme, ids, keys, starts)
        for level, by_key in zip(LEVELS, rates, strict=True):
            margin = 2.58 * by_key.std(ddof=1) / math.sqrt(len(keys))
            # A count that no level is met by exactly is met less often.
            above = by_key.mean() - margin > level
            below = by_key.mean() + margin < level and scheme.name in CONTINUOUS
            held = study.bar(not above and not below, f"false alarms of {scheme.name} at {level:g}")
            study.lines.append(
                f"| {scheme.name} | {level:g} | **{by_key.mean():.3g}** "
                f"| {max(0, by_key.mean() - margin):.3g}–{by_key.mean() + margin:.3g}: {held} "
                f"| {by_key.min():.2g}, {np.median(by_key):.2g}, {by_key.max():.2g} |"
            )
    study.lines += [
        "",
        "Windows overlap and share phrases, so they are no independent trials; keys are: the interval is of the mean "
        "over keys.",
        "",
    ]


def alarm_rates(
    scheme: Scheme, ids: Sequence[int], keys: Sequence[MarkKey], starts: Places, levels: Sequence[float] = LEVELS
) -> Floats:
    """[levels, keys]: of all windows, the share that reaches each level."""
    pairs, place_of = scheme.pairs(ids), evidence_places(scheme, ids)
    previous = previous_places(place_of)
    critical = [critical_scores(scheme, level) for level in levels]
    rates, score_of = np.zeros((len(levels), len(keys))), np.zeros(len(ids))
    for row, key in progress(list(enumerate(keys)), f"human text, {scheme.name}"):
        score_of[pairs.positions] = scheme.token_scores([key.seed_for(scheme.name)], pairs)[0]
        sums, counts = window_sums(score_of[place_of], previous, starts)
        rates[:, row] = [(sums >= least[counts]).mean() for least in critical]
    return rates


def critical_scores(scheme: Scheme, level: float) -> Floats:
    """By the number of tokens, up to a window's: the least score whose p-value is the level or less."""
    mean = NULLS[scheme.name].mean
    scores = [critical_score(partial(scheme.log_p_value, num_tokens=n), level, mean * n) for n in range(1, WINDOW + 1)]
    return np.array([math.inf, *scores])


def evidence_places(scheme: Scheme, ids: Sequence[int]) -> Places:
    """For each token, the first place in the text that scores as it must; SynthID's hash makes many such."""
    if scheme.name != "synthid":
        return first_places(ids)
    width = scheme.context_width
    windows = np.lib.stride_tricks.sliding_window_view(np.array(ids), width + 1)
    _, first, inverse = np.unique(
        synthid.places(windows[:, :width], windows[:, width]), return_index=True, return_inverse=True
    )
    return np.concatenate((np.arange(width), first[inverse.ravel()] + width))


def claims(study: Study, texts: int) -> None:
    """Whether any of all keys claims a human text: what texts have in common is drawn once for all of them."""
    ids, keys = study.human[: texts * CLAIM_TOKENS], study.keys
    starts = np.arange(GUMBEL.context_width, len(ids) - CLAIM_TOKENS + 1, CLAIM_TOKENS // 4)
    again, window_of = repeats(previous_places(first_places(ids)), starts)
    counts = CLAIM_TOKENS - np.bincount(window_of, minlength=len(starts))
    claimed_by = np.zeros(len(starts), np.int64)
    critical = {level: gamma.isf(-np.expm1(np.log1p(-level) / len(keys)), counts) for level in (CLAIM_LEVEL, 0.1)}
    often = np.zeros(len(starts), np.int64)
    for first in progress(range(0, len(keys), KEYS_AT_A_TIME), "keys"):
        scores = _scores(ids, [key.seed for key in keys[first : first + KEYS_AT_A_TIME]])
        for row in scores:
            ends = np.concatenate(([0.0], np.cumsum(row)))
            repeated = np.bincount(window_of, row[again], minlength=len(starts))
            totals = ends[starts + CLAIM_TOKENS] - ends[starts] - repeated
            claimed_by += totals >= critical[CLAIM_LEVEL]
            often += totals >= critical[0.1]
    rate, rate_often = (claimed_by > 0).mean(), (often > 0).mean()
    study.lines += [
        f"### False claims: {len(starts)} windows of {CLAIM_TOKENS} tokens of human text ({texts} apart) "
        f"x {len(keys)} keys",
        "",
        f"At threshold {CLAIM_LEVEL:g}: **{(claimed_by > 0).sum()}** windows claimed, {rate:.2g} of all "
        f"(expected {CLAIM_LEVEL * len(starts):.1f}); at threshold .1: {(often > 0).sum()}, **{rate_often:.3f}**.",
        "",
    ]


def _scores(ids: Sequence[int], seeds: Sequence[int], block: int = 4096) -> Floats:
    """[K, T] of every token, in blocks that stay in the cache."""
    width = GUMBEL.context_width
    windows = np.lib.stride_tricks.sliding_window_view(np.array([-1] * width + list(ids)), width + 1)
    scores = np.empty((len(seeds), len(ids)))
    for first in range(0, len(ids), block):
        part = windows[first : first + block]
        pairs = Pairs(part[:, :width], part[:, width], np.arange(first, first + len(part)))
        scores[:, first : first + block] = GUMBEL.token_scores(seeds, pairs)
    return scores


def repeats(previous: Places, starts: Places) -> tuple[Places, Places]:
    """Tokens whose pair stood in the same window before, and the windows' numbers."""
    at = starts[:, None] + np.arange(CLAIM_TOKENS)
    window_of, offset = np.nonzero(previous[at] >= starts[:, None])
    return at[window_of, offset], window_of


def calibration(study: Study, num_keys: int) -> None:
    """Keys calibrated on half of a tenant's own texts and asked about the other half."""
    keys = study.keys[:num_keys]
    learned, held_out = ([window for ids in half for window in windows_of(ids)] for half in study.traffic)
    adjustments = calibrate(progress(learned, "calibrating"), keys, study.detector.digest)
    study.lines += [
        f"### Calibration on {len(learned)} windows, {len(held_out)} windows of other texts x {len(keys)} keys",
        "",
        *table_head(
            f"p < {LEVELS[0]:g}", "mean over keys", "lowest, median, highest key", "keys above 1.5%", "above 2%"
        ),
    ]
    rates: dict[str, Floats] = {}
    variants: list[tuple[str, dict[tuple[str, str, str], Adjustment]]] = [
        ("as stated", {}),
        ("calibrated", {one.subject: one for one in adjustments}),
    ]
    for name, used in variants:
        hits = np.zeros(len(keys))
        for window in progress(held_out, name):
            shown = detect(window, keys, adjustments=used, tokenizer=study.detector.digest).per_key
            low = {score.key_id for score in shown if score.p_value < LEVELS[0]}
            hits += [key.id in low for key in keys]
        rate = rates[name] = hits / len(held_out)
        study.lines.append(
            f"| {name} | {rate.mean():.2%} | {rate.min():.2%}, {np.median(rate):.2%}, {rate.max():.2%} "
            f"| {(rate > 0.015).sum()} of {len(keys)} | {(rate > 0.02).sum()} |"
        )
    worst = np.argsort(-rates["as stated"])[:5]
    study.lines += [
        "",
        "The five keys with most false alarms, before and after: "
        + "; ".join(f"{rates['as stated'][row]:.2%} → {rates['calibrated'][row]:.2%}" for row in worst)
        + f". Spread: median {np.median([one.spread for one in adjustments]):.2f}; "
        f"shift: median {np.median([one.shift for one in adjustments]):.3f}.",
        "",
    ]


def first_places(ids: Sequence[int]) -> Places:
    """For each token, where its context and it stand first in the text."""
    width = GUMBEL.context_width
    windows = np.lib.stride_tricks.sliding_window_view(np.array([-1] * width + list(ids)), width + 1)
    _, first, inverse = np.unique(windows, axis=0, return_index=True, return_inverse=True)
    places: Places = first[inverse.ravel()]
    return places


def window_sums(scores: Floats, previous: Places, starts: Places) -> tuple[Floats, Places]:
    """Of each window the sum over its distinct pairs, and their number."""
    sums, counts = np.zeros(len(starts)), np.zeros(len(starts), np.int64)
    for offset in range(WINDOW):
        at = starts + offset
        counted = previous[at] < starts
        sums += np.where(counted, scores[at], 0.0)
        counts += counted
    return sums, counts


def previous_places(place_of: Places) -> Places:
    """Where the same pair stood before; -1 where it did not."""
    order = np.argsort(place_of, kind="stable")
    same = place_of[order][1:] == place_of[order][:-1]
    previous = np.full(len(place_of), -1)
    previous[order[1:][same]] = order[:-1][same]
    return previous
