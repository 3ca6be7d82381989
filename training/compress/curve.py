"""Bits a weight against perplexity, as SVG: what each scheme costs and loses, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from training.data.plots import STYLE
from training.evaluate.scores import Score
from training.studies.plot import COLOURS, Scale
from training.studies.study import Axis

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 150, 64, 48
_STYLE = STYLE + "line{stroke:#8884}"


@dataclass(frozen=True)
class Point:
    """One scheme."""

    name: str
    bits: float
    """A weight."""
    ratio: Score
    """Perplexity ÷ that of the model as it was."""


def curve(title: str, series: Mapping[str, Sequence[Point]]) -> str:
    """One colour a set of texts; the names stand beside the first set's points."""
    points = [point for line in series.values() for point in line]
    # With 1, the model as it was, even where all schemes lie far above it.
    bounds = [1.0, *(bound for point in points for bound in (point.ratio.low, point.ratio.high))]
    bits = Scale(Axis("bits a weight"), [point.bits for point in points], _LEFT, _WIDTH - _RIGHT)
    ratio = Scale(Axis("perplexity ÷ original"), bounds, _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        f' aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="10" y="20">{escape(title)}</text>',
        f'<text x="10" y="{_TOP - 8}">perplexity ÷ original</text>',
        f'<text x="{_WIDTH - _RIGHT + 10}" y="{_HEIGHT - _BOTTOM + 18}">bits a weight</text>',
    ]
    for value in ratio.ticks():
        y = ratio(value)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.6g}</text>')
    for value in bits.ticks():
        x = bits(value)
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{value:.6g}</text>')
    for number, (name, each) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<circle cx="{15 + number * 160}" cy="36" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{25 + number * 160}" y="40">{escape(name)}</text>')
        parts += [line for point in each for line in _mark(point, colour, bits, ratio, named=number == 0)]
    return "\n".join([*parts, "</svg>", ""])


def _mark(point: Point, colour: str, bits: Scale, ratio: Scale, named: bool) -> list[str]:
    x, y = bits(point.bits), ratio(point.ratio.value)
    low, high = ratio(point.ratio.low), ratio(point.ratio.high)
    shown = f"{point.name}: {point.bits:.2f} bits, {point.ratio}"
    marks = [
        f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{colour}" stroke-width="2"/>',
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"><title>{escape(shown)}</title></circle>',
    ]
    # Points of further sets have the same bits: their names would cover the first set's.
    return [*marks, *([f'<text x="{x + 9:.1f}" y="{y + 4:.1f}">{escape(point.name)}</text>'] if named else [])]
