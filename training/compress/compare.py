"""Several ways of compressing one checkpoint beside each other: as rows of a table, as JSON, as a plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.compress.curve import Point, curve
from training.compress.errors import EngineFailed
from training.compress.quantize import Losses, Outcome, Request, quantize
from training.compress.schemes import Scheme
from training.compress.served import Served
from training.data import Example
from training.evaluate import Source
from training.registry import Registry

Serve = Callable[[str, Mapping[str, Sequence[Example]]], Served]
"""Measures a checkpoint in the engine, on sets of texts; raises EngineFailed."""


@dataclass(frozen=True)
class Comparison:
    """What was made of one checkpoint."""

    ref: str
    made: dict[str, Outcome]
    """By scheme."""
    served: dict[str, Served]
    """By checkpoint, the original's among them; empty where not measured."""
    unserved: list[str]
    """Why an engine serves a checkpoint not, a line each."""

    @property
    def first(self) -> Outcome:
        return next(iter(self.made.values()))


def compare(
    source: Source, schemes: Sequence[Scheme], request: Request, home: Path, registry: Registry, serve: Serve | None
) -> Comparison:
    """Make one checkpoint of each scheme and measure all on the same texts; those made stay when a later one fails.

    Raises CompressError, DataError, SourceError or RegistryError.
    """
    made: dict[str, Outcome] = {}
    before: Losses | None = None
    for scheme in schemes:
        outcome = quantize(source, replace(request, scheme=scheme), home, registry, losses_before=before)
        made[scheme.name], before = outcome, outcome.losses_before
    served: dict[str, Served] = {}
    unserved = []
    if serve is not None:
        # One after another: engines side by side would share the cores, and measure each other.
        for ref in (source.identity.ref, *(outcome.checkpoint.ref for outcome in made.values())):
            try:
                served[ref] = serve(ref, next(iter(made.values())).texts)
            # A scheme that the engine does not serve leaves a gap in the table; the others are still worth it.
            except EngineFailed as error:
                unserved.append(str(error))
    return Comparison(source.identity.ref, made, served, unserved)


def as_json(compared: Comparison) -> dict[str, Any]:
    """What the table and the plot show."""
    first = compared.first
    result: dict[str, Any] = {
        "ref": compared.ref,
        "bytes": first.bytes_before,
        "perplexity": first.first.before,
        "heldout_tokens": first.first.tokens,
        "sets": {name: {"perplexity": change.before, "tokens": change.tokens} for name, change in first.sets.items()},
        "task": None if first.task is None else first.task.before.figures("accuracy"),
        **_in_engine(compared, compared.ref),
    }
    return result | {
        "schemes": [
            {
                "scheme": scheme,
                "ref": outcome.checkpoint.ref,
                "bytes": outcome.bytes_after,
                "bits_per_weight": outcome.bits,
                "bits_per_weight_whole": outcome.bits_whole,
                "perplexity": outcome.first.after,
                **outcome.first.ratio.figures("ratio"),
                "sets": {name: change.figures() for name, change in outcome.sets.items()},
                "task": None if outcome.task is None else outcome.task.figures(),
                **_in_engine(compared, outcome.checkpoint.ref),
                "settings": outcome.settings,
                "seconds": outcome.cost.seconds,
                "peak_bytes": outcome.cost.peak_bytes,
            }
            for scheme, outcome in compared.made.items()
        ],
        "unserved": compared.unserved,
    }


def _in_engine(compared: Comparison, ref: str) -> dict[str, Any]:
    served = compared.served.get(ref)
    return {"tokens_per_s": None, "engine_perplexity": None} if served is None else served.figures()


def as_table(compared: Comparison) -> list[str]:
    """Lines in columns: the model as it is, and every scheme."""
    first, made = compared.first, compared.made.values()
    refs = [compared.ref, *(outcome.checkpoint.ref for outcome in made)]
    columns = [
        ["", "as it is", *compared.made],
        ["MB", f"{first.bytes_before / 1e6:.0f}", *(f"{outcome.bytes_after / 1e6:.0f}" for outcome in made)],
        ["bits", f"{first.bits_before:.3g}", *(f"{outcome.bits:.2f}" for outcome in made)],
    ]
    for name, change in first.sets.items():
        columns.append([name, f"{change.before:.2f}", *(f"{outcome.sets[name].after:.2f}" for outcome in made)])
        columns.append(["÷ (95%)", "1", *(str(outcome.sets[name].ratio) for outcome in made)])
        if compared.served:
            there = [compared.served.get(ref) for ref in refs]
            columns.append(["in the engine", *(f"{run.perplexity[name]:.2f}" if run else "–" for run in there)])
    if first.task is not None:
        columns.append(["right", f"{first.task.before.value:.3f}", *(f"{_right(outcome):.3f}" for outcome in made)])
    if compared.served:
        columns.append(["tokens/s", *(str(compared.served.get(ref, "–")) for ref in refs)])
    columns.append(["s", "–", *(f"{outcome.cost.seconds:.0f}" for outcome in made)])
    columns.append(["checkpoint", *refs])
    return _aligned(columns)


def _right(outcome: Outcome) -> float:
    assert outcome.task is not None  # all were asked the same
    return outcome.task.after.value


def as_plot(compared: Comparison) -> str:
    """Bits a weight against the loss of perplexity, as SVG."""
    series = {
        name: [Point(scheme, outcome.bits, outcome.sets[name].ratio) for scheme, outcome in compared.made.items()]
        for name in compared.first.sets
    }
    return curve(f"{compared.ref}: bits a weight and perplexity", series)


def _aligned(columns: Sequence[Sequence[str]]) -> list[str]:
    """Rows: the first and the last column to the left, numbers to the right."""
    padded = [
        [cell.ljust(width) if number in (0, len(columns) - 1) else cell.rjust(width) for cell in column]
        for number, column in enumerate(columns)
        for width in [max(map(len, column))]
    ]
    return ["  ".join(row).rstrip() for row in zip(*padded, strict=True)]
