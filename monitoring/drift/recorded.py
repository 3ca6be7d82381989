"""A reference that is part of a checkpoint's signed manifest: made from the ledger, and read again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from monitoring.drift.features import FEATURES, values_of
from monitoring.drift.sketch import Sketch
from monitoring.drift.window import LedgerReader, Window
from training.registry import DriftReference, FeatureSketch, Registry, RegistryError

_ROWS = 5000


def sketch_answers(reader: LedgerReader, models: Sequence[str], since: float, until: float) -> dict[str, Sketch]:
    """Sketches of the answers of `models` from `since` to before `until`, Unix seconds; a few rows at a time.

    Raises:
        LedgerUnreadable: as `LedgerReader.read`.
    """
    sketches = {feature.name: Sketch.empty(feature.grid) for feature in FEATURES}
    row, last = reader.first_row(since), -1
    while row != last:
        last = row
        answers, row = reader.answers_after(row, _ROWS, math.inf)
        own = [answer for answer in answers if answer.model in models and since <= answer.created_at < until]
        for feature, values in zip(FEATURES, values_of(own), strict=True):
            sketches[feature.name].add(feature.grid.bins(values), values)
    return sketches


def reference_of(window: Window, answers: Mapping[str, Sketch]) -> DriftReference:
    """`window` as what later ones are compared with, with the `answers`' sketches, which the worker compares."""
    sketches = {
        name: FeatureSketch(
            counts={str(place): int(sketch.counts[place]) for place in np.flatnonzero(sketch.counts)},
            total=sketch.total,
        )
        for name, sketch in answers.items()
        if sketch.samples
    }
    return window.as_reference().model_copy(update={"sketches": sketches})


def sketches_of(reference: DriftReference) -> dict[str, Sketch] | None:
    """The sketches of a recorded reference; None: it is from before there were any."""
    if reference.sketches is None:
        return None
    sketches = {}
    for feature in FEATURES:
        own = reference.sketches.get(feature.name)
        if own is not None and all(int(place) < feature.grid.num_bins for place in own.counts):
            counts = np.zeros(feature.grid.num_bins, dtype=np.int64)
            for place, count in own.counts.items():
                counts[int(place)] = count
            sketches[feature.name] = Sketch(counts, own.total)
    return sketches


def reference_finder(
    registry: Registry, ref: str | None, served_as: Sequence[str]
) -> Callable[[str, str], dict[str, Sketch] | None]:
    """Looks a served model's recorded reference up: by its checkpoint's digest, else by its name.

    Args:
        ref: the checkpoint whose reference holds for the names `served_as`; None: each model's own.
    """

    def find(model: str, version: str) -> dict[str, Sketch] | None:
        chosen = ref if ref is not None and model in served_as else None
        for name in filter(None, (chosen, version, model)):
            try:
                reference = registry.resolve(name).manifest.drift_reference
            except RegistryError:
                continue
            return sketches_of(reference) if reference is not None else None
        return None

    return find
