"""What detection is worth: attribution among many keys, false alarms on human text, power, abstention, edits, spans.

    python -m loadtests.detection --data FOLDER --model-folder .signet/registry/smollm2-135m-instruct/1

FOLDER holds `test.txt` and `valid.txt` of WikiText-2, or other large plain texts of these names. Marked texts come from
a small model of the text's own words, which speaks as surely as it is told to. Exits with 1 when a bar is missed.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma
from tokenizers import Tokenizer

from loadtests.bigram import Bigram
from loadtests.detection_study import GUMBEL, KINDS, WINDOW, Study, keys_of_many_tenants, progress, sentences
from loadtests.detection_texts import edits, power, spans
from loadtests.report import machine
from serving.provenance import Detector, detect
from serving.provenance.adjustment import Adjustment
from serving.provenance.detection.calibrate import calibrate, windows_of

STRIDE = 3
LEVELS = (1e-2, 1e-3, 1e-5)


def attribution(study: Study, texts: int, num_tokens: int = 400) -> None:
    """Which of all keys: right, wrong and none; what it takes."""
    study.lines += [
        f"### Attribution among {len(study.keys)} keys, {num_tokens} tokens, threshold 1e-3",
        "",
        "| text | texts | right key | none | wrong key |",
        "|---|---|---|---|---|",
    ]
    wrong_in_all, seconds, cpu_seconds, right_prose = 0, [], [], 1.0
    chosen = random.Random(1)
    human = windows_of(study.human, num_tokens)
    for kind, nats in [*study.kinds.items(), ("human", 0.0)]:
        model = Bigram(study.spoken, nats) if nats else None
        right = none = wrong = 0
        for number in progress(range(texts), kind):
            key = chosen.choice(study.keys)
            tokens = model.answer(num_tokens, key.seed).tokens if model else human[number % len(human)]
            began, cpu = time.perf_counter(), time.process_time()
            found = detect(tokens, study.keys)
            seconds.append(time.perf_counter() - began)
            cpu_seconds.append(time.process_time() - cpu)
            none += not found.marked
            right += bool(model) and found.key_id == key.id
            wrong += found.marked and (model is None or found.key_id != key.id)
        wrong_in_all += wrong
        if nats >= 0.5:
            right_prose = min(right_prose, right / texts)
        study.lines.append(
            f"| {kind}{f', {nats} nats a token' if nats else ''} | {texts} | {right} | {none} | {wrong} |"
        )
    total = texts * (len(study.kinds) + 1)
    study.lines += [
        "",
        f"Right in prose: at least **{right_prose:.1%}**; bar 98%: {study.bar(right_prose >= 0.98, 'attribution')}. "
        f"Wrong keys named: **{wrong_in_all}** of {total} texts; bar 1e-3: "
        f"{study.bar(wrong_in_all <= max(1, total * 1e-3), 'false claims')}. One core: median "
        f"**{np.median(cpu_seconds):.2f} s** of processor time, {np.median(seconds):.2f} s by the clock, best "
        f"{min(seconds):.2f} s; bar 1 s: {study.bar(float(np.median(cpu_seconds)) < 1, 'attribution speed')}.",
        "",
    ]


def false_alarms(study: Study, num_keys: int) -> None:
    """Every window of human text under every key, as `detect` scores it, without a round of it for each window."""
    ids, keys = study.human, study.keys[:num_keys]
    pairs = GUMBEL.pairs(ids)
    place_of = first_places(ids)
    previous = previous_places(place_of)
    starts = np.arange(GUMBEL.context_width, len(ids) - WINDOW, STRIDE)
    critical = {level: gamma.isf(level, np.arange(WINDOW + 1)) for level in LEVELS}
    hits = {level: np.zeros(len(keys)) for level in LEVELS}
    score_of = np.zeros(len(ids))
    for row, key in progress(list(enumerate(keys)), "human text"):
        score_of[pairs.positions] = GUMBEL.token_scores([key.seed], pairs)[0]
        sums, counts = window_sums(score_of[place_of], previous, starts)
        for level in LEVELS:
            hits[level][row] = (sums >= critical[level][counts]).sum()
    study.lines += [
        f"### False alarms: {len(starts)} windows of {WINDOW} tokens of human text x {len(keys)} keys",
        "",
        "| stated | measured | 99% interval | by key: lowest, median, highest |",
        "|---|---|---|---|",
    ]
    for level in LEVELS:
        rates = hits[level] / len(starts)
        margin = 2.58 * rates.std(ddof=1) / math.sqrt(len(keys))
        held = study.bar(abs(rates.mean() - level) <= margin, f"false alarms at {level:g}")
        study.lines.append(
            f"| {level:g} | **{rates.mean():.3g}** "
            f"| {max(0, rates.mean() - margin):.3g}–{rates.mean() + margin:.3g}: {held} "
            f"| {rates.min():.2g}, {np.median(rates):.2g}, {rates.max():.2g} |"
        )
    study.lines += [
        "",
        "Windows overlap and share phrases, so they are no independent trials; keys are: the interval is of the mean "
        "over keys.",
        "",
    ]


def calibration(study: Study, num_keys: int) -> None:
    """Keys calibrated on one text and asked about another, at the level where phrases matter most."""
    keys = study.keys[:num_keys]
    found = calibrate(progress(windows_of(study.other_human), "calibrating"), keys, study.detector.digest)
    adjustments = {one.subject: one for one in found}
    windows = windows_of(study.human)
    rates: dict[str, list[float]] = {}
    given: list[tuple[str, dict[tuple[str, str, str], Adjustment]]] = [("as stated", {}), ("calibrated", adjustments)]
    for name, used in given:
        hits = np.zeros(len(keys))
        for window in progress(windows, name):
            scores = {
                score.key_id: score.p_value
                for score in detect(window, keys, adjustments=used, tokenizer=study.detector.digest).per_key
            }
            hits += np.array([scores[key.id] < 1e-2 for key in keys])
        rates[name] = sorted(hits / len(windows))
    study.lines += [
        f"### Calibration on {len(study.other_human) // WINDOW} windows of another text: {len(windows)} windows "
        f"x {len(keys)} keys",
        "",
        "| p < 1e-2 | mean over keys | highest key | keys above 1.5% |",
        "|---|---|---|---|",
    ]
    for name, by_key in rates.items():
        above = sum(rate > 0.015 for rate in by_key)
        study.lines.append(f"| {name} | {np.mean(by_key):.2%} | {by_key[-1]:.2%} | {above} of {len(keys)} |")
    study.lines.append("")


def first_places(ids: Sequence[int]) -> NDArray[np.int64]:
    """For each token, where its context and it stand first in the text."""
    width = GUMBEL.context_width
    windows = np.lib.stride_tricks.sliding_window_view(np.array([-1] * width + list(ids)), width + 1)
    _, first, inverse = np.unique(windows, axis=0, return_index=True, return_inverse=True)
    places: NDArray[np.int64] = first[inverse.ravel()]
    return places


def window_sums(
    scores: NDArray[np.float64], previous: NDArray[np.int64], starts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Of each window the sum over its distinct pairs, and their number."""
    sums, counts = np.zeros(len(starts)), np.zeros(len(starts), np.int64)
    for offset in range(WINDOW):
        at = starts + offset
        counted = previous[at] < starts
        sums += np.where(counted, scores[at], 0.0)
        counts += counted
    return sums, counts


def previous_places(place_of: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the same pair stood before; -1 where it did not."""
    order = np.argsort(place_of, kind="stable")
    same = place_of[order][1:] == place_of[order][:-1]
    previous = np.full(len(place_of), -1)
    previous[order[1:][same]] = order[:-1][same]
    return previous


# Each with the number of texts of a kind, or of keys, that it takes.
PARTS: dict[str, tuple[Callable[[Study, int], None], int]] = {
    "attribution": (attribution, 40),
    "false-alarms": (false_alarms, 100),
    "calibration": (calibration, 50),
    "power": (power, 200),
    "edits": (edits, 100),
    "spans": (spans, 50),
}


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, exists=True), help="Folder with the human text.")
@click.option("--model-folder", required=True, type=click.Path(path_type=Path, exists=True), help="For the tokenizer.")
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)), help="Default: all.")
@click.option("--num-keys", default=10_000, show_default=True)
@click.option("--number", type=click.IntRange(2), help="Texts of each kind, or keys, in place of each part's own.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Of text; default: all.")
def main(
    data: Path, model_folder: Path, parts: tuple[str, ...], num_keys: int, number: int | None, kinds: tuple[str, ...]
) -> None:
    """Study detection."""
    detector = Detector(model_folder)
    texts = [(data / name).read_text() for name in ("test.txt", "valid.txt")]
    human, other = map(detector.token_ids, texts)
    spoken = detector.token_ids(sentences(texts[0]))
    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    chosen = {kind: nats for kind, nats in KINDS.items() if not kinds or kind in kinds}
    study = Study(detector, tokenizer, human, spoken, other, keys_of_many_tenants(num_keys), chosen)
    for part in parts or PARTS:
        measure, usual = PARTS[part]
        measure(study, number or usual)
    about = machine()
    named = "".join(f" --part {part}" for part in parts)
    command = f"python -m loadtests.detection --data wikitext2 --model-folder …{named}"
    click.echo(f"`{command}`, {about['date']}; {about['cores']} cores ({about['cpu']}), load {about['load']}.\n")
    click.echo("\n".join(study.lines))
    if study.missed:
        raise click.ClickException(f"bars missed: {json.dumps(study.missed)}")


if __name__ == "__main__":
    main()
