"""Other tools' drift detectors over the streams of `loadtests.benchmarks.drift`, which runs this.

    PEERS_PYTHON loadtests/benchmarks/drift_peers.py STREAMS.npz

Needs river, frouros and evidently, in an environment of their own, and nothing of Signet. Each tool gets the most
sensitive setting of a list that raises no alarm in the unchanged stream. Prints a line of JSON for each tool: its name,
its setting and, for each scenario, the delays in answers; null: no alarm.
"""

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from evidently.legacy.calculations.stattests import wasserstein_distance_norm  # type: ignore[import-not-found]
from frouros.detectors.concept_drift import CUSUM, CUSUMConfig  # type: ignore[import-not-found]
from river import drift  # type: ignore[import-not-found]

_WINDOW = 100


class Each:
    """One streaming detector for each feature; any of them raises the alarm."""

    def __init__(self, make: Callable[[], Any], reference: np.ndarray) -> None:
        self._detectors = [make() for _ in range(reference.shape[1])]
        for row in reference[-500:]:
            self.update(row)

    def update(self, row: np.ndarray) -> bool:
        alarm = False
        for detector, value in zip(self._detectors, row.tolist(), strict=True):
            detector.update(value)
            alarm |= bool(getattr(detector, "drift_detected", None) or getattr(detector, "drift", False))
        return alarm


class Cusum:
    """frouros' CUSUM, begun anew after each alarm as river's are."""

    def __init__(self, threshold: float) -> None:
        self._detector = CUSUM(config=CUSUMConfig(lambda_=threshold))
        self.drift_detected = False

    def update(self, value: float) -> None:
        self._detector.update(value=value)
        self.drift_detected = bool(self._detector.drift)
        if self.drift_detected:
            self._detector.reset()


class Windows:
    """evidently's default test of numbers, for windows of 100 answers."""

    def __init__(self, threshold: float, reference: np.ndarray) -> None:
        self._reference = reference
        self._threshold = threshold
        self._rows: list[np.ndarray] = []

    def update(self, row: np.ndarray) -> bool:
        self._rows.append(row)
        if len(self._rows) < _WINDOW:
            return False
        window, self._rows = np.array(self._rows), []
        distance = wasserstein_distance_norm._wasserstein_distance_norm
        columns = zip(self._reference.T, window.T, strict=True)
        return any(distance(then, now, "num", self._threshold)[0] >= self._threshold for then, now in columns)


def tools(reference: np.ndarray) -> dict[str, dict[str, Callable[[], Any]]]:
    """Tool to its settings, the most sensitive first."""

    def each(make: Callable[..., Any], **settings: Any) -> Callable[[], Any]:
        return partial(Each, partial(make, **settings), reference)

    return {
        "river ADWIN": {f"delta={delta:g}": each(drift.ADWIN, delta=delta) for delta in (2e-3, 1e-4, 1e-6, 1e-8)},
        "river Page-Hinkley": {
            f"threshold={threshold}": each(drift.PageHinkley, delta=0.1, threshold=threshold, alpha=1.0)
            for threshold in (25, 50, 75, 100)
        },
        "frouros CUSUM": {
            f"lambda={threshold}": each(Cusum, threshold=threshold) for threshold in (50, 100, 200, 400, 800)
        },
        "evidently": {
            f"threshold={threshold}": partial(Windows, threshold, reference) for threshold in (0.1, 0.3, 0.4, 0.5, 0.6)
        },
        "river KSWIN": {f"alpha={alpha:g}": each(drift.KSWIN, alpha=alpha, seed=1) for alpha in (1e-7, 1e-9, 1e-11)},
    }


def first_alarm(detector: Any, rows: np.ndarray) -> int | None:
    """Answers up to the first alarm."""
    return next((number + 1 for number, row in enumerate(rows) if detector.update(row)), None)


def chosen(settings: dict[str, Callable[[], Any]], unchanged: np.ndarray) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The first setting without a false alarm; nothing when all have one."""
    for name, make in settings.items():
        if first_alarm(make(), unchanged) is None:
            yield name, make
            return


def main() -> None:
    """Print what each tool does."""
    streams = np.load(sys.argv[1])
    reference, unchanged = streams["reference"], streams["unchanged"]
    scenarios = sorted({name.rsplit("/", 1)[0] for name in streams.files if "/" in name})
    for tool, settings in tools(reference).items():
        for setting, make in chosen(settings, unchanged):
            delays: dict[str, list[int | None]] = {}
            for scenario in scenarios:
                own = [name for name in streams.files if name.rsplit("/", 1)[0] == scenario]
                delays[scenario] = [first_alarm(make(), streams[name]) for name in sorted(own)]
            print(json.dumps([f"{tool} {setting}", delays]), flush=True)


if __name__ == "__main__":
    main()
