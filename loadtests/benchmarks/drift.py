"""The drift worker's detectors: false alarms of unchanged traffic, and delays beside other tools.

    python -m loadtests.benchmarks.drift --traces FOLDER --peers-python PEERS/bin/python

Lengths are resampled from the Azure traces of 2023 (github.com/Azure/AzurePublicDataset: conversations and code).
Refusals and characters per token are drawn: 2%, and normal with a mean of 4.4 (as of English) or 3.4 (as of German) and
a deviation of 0.5.
"""

from __future__ import annotations

import csv
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from monitoring.drift.detector import Detector
from monitoring.drift.features import FEATURES
from monitoring.drift.scores import make_scores
from monitoring.drift.sketch import Sketch
from monitoring.telemetry.settings import DriftSettings

Rows = NDArray[np.float64]
"""[answers, features]"""
NAMES = ("prompt_tokens", "completion_tokens", "chars_per_token", "refusal_rate")
WATCHED = [feature for feature in FEATURES if feature.name in NAMES]
REFERENCE = 2000
WEEK = 7 * 24 * 110
"""Answers of a reference as `signet drift record --since 7d` makes it."""
CALIBRATION = 96_000
RATE = 110
"""Answers an hour of the scenarios."""
LONGEST = 4000
SEEDS = 3
DAY_S, HOUR_S = 86_400.0, 3600.0
SETTINGS = DriftSettings()
VARIANTS = {
    "Signet": (REFERENCE, SETTINGS),
    "Signet, a week's reference": (WEEK, SETTINGS),
    # One false alarm in as many answers as the peers' settings were chosen by.
    "Signet, a week's reference, 36 days, tolerance 0.02": (
        WEEK,
        DriftSettings(run_length_days=36, tolerance=0.02),
    ),
}


class Traffic:
    """Draws answers."""

    def __init__(self, traces: Path) -> None:
        self._conversations, self._code = (
            _lengths(traces / f"AzureLLMInferenceTrace_{name}.csv") for name in ("conv", "code")
        )

    def draw(
        self,
        random: np.random.Generator,
        number: int,
        *,
        longer: Rows | float = 1.0,
        code: Rows | float = 0.0,
        german: Rows | float = 0.0,
        refused: Rows | float = 0.02,
    ) -> Rows:
        """Answers; each change is one number, or one for each answer."""
        rows = np.empty((number, len(NAMES)))
        lengths = self._conversations[random.integers(0, len(self._conversations), number)]
        codes = self._code[random.integers(0, len(self._code), number)]
        rows[:, :2] = np.where((random.random(number) < code)[:, None], codes, lengths)
        rows[:, 0] = (rows[:, 0] * longer).round()
        rows[:, 2] = random.normal(np.where(random.random(number) < german, 3.4, 4.4), 0.5)
        rows[:, 3] = random.random(number) < refused
        return rows


def scenarios(traffic: Traffic) -> dict[str, Callable[[np.random.Generator], Rows]]:
    """Name to what draws the answers from the change on."""
    hours = np.arange(LONGEST) / RATE
    rising = np.minimum(hours / (5 * 24), 1.0)
    by_day = (hours % 24 < 12).astype(float)
    return {
        "length, abrupt": lambda random: traffic.draw(random, LONGEST, longer=1.5),
        "length, gradual": lambda random: traffic.draw(random, LONGEST, longer=1 + rising),
        "length, recurring": lambda random: traffic.draw(random, LONGEST, longer=1 + by_day),
        "topic, abrupt": lambda random: traffic.draw(random, LONGEST, code=0.3),
        "topic, gradual": lambda random: traffic.draw(random, LONGEST, code=0.6 * rising),
        "language, abrupt": lambda random: traffic.draw(random, LONGEST, german=0.2),
        "language, recurring": lambda random: traffic.draw(random, LONGEST, german=0.4 * by_day),
        "quality, abrupt": lambda random: traffic.draw(random, LONGEST, refused=0.06),
    }


def detector(reference: Rows, settings: DriftSettings = SETTINGS) -> Detector:
    """As the worker makes it."""
    scores = {}
    for feature, values in zip(WATCHED, reference.T, strict=True):
        sketch = Sketch.empty(feature.grid)
        sketch.add(feature.grid.bins(values), values)
        scores[feature.name] = make_scores(
            feature.grid, sketch, error=0.01 / len(WATCHED), tolerance=settings.tolerance
        )
    return Detector(scores, settings.run_length_days * DAY_S)


def alarms(watching: Detector, rows: Rows, rate: float, start: float = 0.0) -> list[float]:
    """Answers before each alarm, at so many answers an hour."""
    bins = [feature.grid.bins(values) for feature, values in zip(WATCHED, rows.T, strict=True)]
    times: NDArray[np.float64] = start + np.arange(len(rows), dtype=np.float64) * (HOUR_S / rate)
    return [(alarm.at - start) * rate / HOUR_S for alarm in watching.update(bins, times)]


def false_alarms(traffic: Traffic, rate: int, runs: int, days: int) -> int:
    """Alarms of unchanged traffic, in all runs, each with a reference of its own."""
    total = 0
    for seed in range(runs):
        random = np.random.default_rng((rate, seed))
        watching = detector(traffic.draw(random, REFERENCE))
        for day in range(days):
            total += len(alarms(watching, traffic.draw(random, rate * 24), rate, day * DAY_S))
    return total


def for_peers(rows: Rows, reference: Rows) -> Rows:
    """Lengths as logarithms, and all features with mean 0 and deviation 1 in the reference: what thresholds expect."""
    scaled, known = (np.column_stack([np.log1p(part[:, :2]), part[:, 2:]]) for part in (rows, reference))
    result: Rows = (scaled - known.mean(axis=0)) / known.std(axis=0)
    return result


@click.command()
@click.option("--traces", required=True, type=click.Path(path_type=Path), help="Folder with the Azure traces.")
@click.option("--peers-python", help="Python of an environment with river, frouros and evidently.")
@click.option("--runs", default=(40, 20, 6), show_default=True, type=(int, int, int), help="At 20, 110, 600 an hour.")
def main(traces: Path, peers_python: str | None, runs: tuple[int, int, int]) -> None:
    """Print both tables."""
    traffic = Traffic(traces)
    promised = 90 / SETTINGS.run_length_days
    for rate, number in zip((20, 110, 600), runs, strict=True):
        found = false_alarms(traffic, rate, number, 90)
        click.echo(f"{rate} an hour: {found} alarms in {number} x 90 days, promised at most {promised * number:.1f}")
    reference = traffic.draw(np.random.default_rng(1), REFERENCE)
    streams = {
        f"{name}/{seed}": draw(np.random.default_rng((7, seed)))
        for name, draw in scenarios(traffic).items()
        for seed in range(SEEDS)
    }
    delays: dict[str, dict[str, list[float | None]]] = {}
    for tool, (samples, settings) in VARIANTS.items():
        known = traffic.draw(np.random.default_rng(1), samples)
        delays[tool] = {}
        for name in scenarios(traffic):
            own = [alarms(detector(known, settings), streams[f"{name}/{seed}"], RATE) for seed in range(SEEDS)]
            delays[tool][name] = [first[0] if first else None for first in own]
    if peers_python:
        unchanged = traffic.draw(np.random.default_rng(2), CALIBRATION)
        everything = {"reference": reference, "unchanged": unchanged, **streams}
        delays |= _peers(peers_python, {name: for_peers(rows, reference) for name, rows in everything.items()})
    for name in scenarios(traffic):
        shown = ", ".join(f"{tool} {_median(own[name]):.0f}" for tool, own in delays.items() if name in own)
        click.echo(f"{name}: {shown}")


def _peers(python: str, streams: dict[str, Rows]) -> dict[str, dict[str, list[float | None]]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "streams.npz"
        np.savez(file, **streams)  # type: ignore[arg-type]
        script = Path(__file__).with_name("drift_peers.py")
        done = subprocess.run([python, str(script), str(file)], stdout=subprocess.PIPE, check=True)
    return dict(json.loads(line) for line in done.stdout.splitlines())


def _median(delays: list[float | None]) -> float:
    """Of a run without an alarm, all of its answers are the delay."""
    return float(np.median([LONGEST if delay is None else delay for delay in delays]))


def _lengths(file: Path) -> Rows:
    with file.open() as lines:
        return np.array([[float(row["ContextTokens"]), float(row["GeneratedTokens"])] for row in csv.DictReader(lines)])


if __name__ == "__main__":
    main()
