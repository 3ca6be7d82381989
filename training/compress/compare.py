"""Several ways of compressing one checkpoint beside each other: as rows of a table, as JSON, as a plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.compress.curve import Point, curve
from training.compress.errors import EngineFailed
from training.compress.quantize import Losses, Outcome, Request, quantize
from training.compress.schemes import Scheme
from training.evaluate import Source
from training.registry import Registry

Speed = Callable[[str], float]
"""Tokens per second of a checkpoint; raises EngineFailed."""


@dataclass(frozen=True)
class Comparison:
    """What was made of one checkpoint."""

    ref: str
    made: dict[str, Outcome]
    """By scheme."""
    speeds: dict[str, float]
    """Tokens per second by checkpoint, the original's among them; empty where not measured."""
    unserved: list[str]
    """Why an engine serves a checkpoint not, a line each."""

    @property
    def first(self) -> Outcome:
        return next(iter(self.made.values()))


def compare(
    source: Source, schemes: Sequence[Scheme], request: Request, home: Path, registry: Registry, speed: Speed | None
) -> Comparison:
    """Make one checkpoint of each scheme and measure all on the same texts; those made stay when a later one fails.

    Raises CompressError, DataError, SourceError or RegistryError.
    """
    made: dict[str, Outcome] = {}
    before: Losses | None = None
    for scheme in schemes:
        outcome = quantize(source, replace(request, scheme=scheme), home, registry, losses_before=before)
        made[scheme.name], before = outcome, outcome.losses_before
    speeds: dict[str, float] = {}
    unserved = []
    for ref in (source.identity.ref, *(each.checkpoint.ref for each in made.values())) if speed else ():
        try:
            speeds[ref] = speed(ref)  # type: ignore[misc]
        except EngineFailed as error:
            unserved.append(str(error))
    return Comparison(source.identity.ref, made, speeds, unserved)


def as_json(compared: Comparison) -> dict[str, Any]:
    """What the table and the plot show."""
    first = compared.first
    result: dict[str, Any] = {
        "ref": compared.ref,
        "bytes": first.bytes_before,
        "perplexity": first.first.before,
        "heldout_tokens": first.first.tokens,
        "sets": {name: {"perplexity": each.before, "tokens": each.tokens} for name, each in first.sets.items()},
        "task": None if first.task is None else first.task.before.figures("accuracy"),
        "tokens_per_s": compared.speeds.get(compared.ref),
    }
    return result | {
        "schemes": [
            {
                "scheme": scheme,
                "ref": each.checkpoint.ref,
                "bytes": each.bytes_after,
                "bits_per_weight": each.bits,
                "bits_per_weight_whole": each.bits_whole,
                "perplexity": each.first.after,
                **each.first.ratio.figures("ratio"),
                "sets": {name: change.figures() for name, change in each.sets.items()},
                "task": None if each.task is None else each.task.figures(),
                "tokens_per_s": compared.speeds.get(each.checkpoint.ref),
                "settings": each.settings,
                "seconds": each.cost.seconds,
                "peak_bytes": each.cost.peak_bytes,
            }
            for scheme, each in compared.made.items()
        ],
        "unserved": compared.unserved,
    }


def as_table(compared: Comparison) -> list[str]:
    """Lines in columns: the model as it is, and every scheme."""
    first = compared.first
    head = ["", "MB", "bits"]
    plain = ["as it is", f"{first.bytes_before / 1e6:.0f}", "16"]
    rows = [[scheme, f"{each.bytes_after / 1e6:.0f}", f"{each.bits:.2f}"] for scheme, each in compared.made.items()]
    for name, change in first.sets.items():
        head += [name, "÷ (95%)"]
        plain += [f"{change.before:.2f}", "1"]
        for row, each in zip(rows, compared.made.values(), strict=True):
            row += [f"{each.sets[name].after:.2f}", str(each.sets[name].ratio)]
    if first.task is not None:
        head.append("right")
        plain.append(f"{first.task.before.value:.3f}")
        for row, each in zip(rows, compared.made.values(), strict=True):
            assert each.task is not None  # all were asked the same
            row.append(f"{each.task.after.value:.3f}")
    if compared.speeds:
        head.append("tokens/s")
        refs = [each.checkpoint.ref for each in compared.made.values()]
        for row, ref in zip([plain, *rows], [compared.ref, *refs], strict=True):
            row.append(f"{compared.speeds[ref]:.0f}" if ref in compared.speeds else "–")
    head += ["s", "checkpoint"]
    plain += ["–", compared.ref]
    for row, each in zip(rows, compared.made.values(), strict=True):
        row += [f"{each.cost.seconds:.0f}", each.checkpoint.ref]
    return _aligned([head, plain, *rows])


def as_plot(compared: Comparison) -> str:
    """Bits a weight against the loss of perplexity, as SVG."""
    series = {
        name: [Point(scheme, each.bits, each.sets[name].ratio) for scheme, each in compared.made.items()]
        for name in compared.first.sets
    }
    return curve(f"{compared.ref}: bits a weight and perplexity", series)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first and the last column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number in (0, len(row) - 1) else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
