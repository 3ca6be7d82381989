"""Bits a weight against perplexity, as SVG: what each scheme costs and loses, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from training.evaluate.scores import Score

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 150, 64, 48
_COLOURS = ("#2f6f9f", "#d08a2e", "#5b8f4d", "#8d5a97")
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.title{font-weight:600;font-size:15px}line{stroke:#8884}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
)


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
    points = [point for each in series.values() for point in each]
    bits = _Axis([point.bits for point in points], _LEFT, _WIDTH - _RIGHT)
    ratio = _Axis(
        [1.0, *(end for each in points for end in (each.ratio.low, each.ratio.high))], _HEIGHT - _BOTTOM, _TOP
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        f' aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="10" y="20">{escape(title)}</text>',
        f'<text x="10" y="{_TOP - 8}">perplexity ÷ original</text>',
        f'<text x="{_WIDTH - _RIGHT + 10}" y="{_HEIGHT - _BOTTOM + 18}">bits a weight</text>',
    ]
    for value in ratio.ticks():
        y = ratio.place(value)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in bits.ticks():
        x = bits.place(value)
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{value:g}</text>')
    for number, (name, each) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(f'<circle cx="{15 + number * 160}" cy="36" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{25 + number * 160}" y="40">{escape(name)}</text>')
        parts += [line for point in each for line in _mark(point, colour, bits, ratio, named=number == 0)]
    return "\n".join([*parts, "</svg>", ""])


def _mark(point: Point, colour: str, bits: _Axis, ratio: _Axis, named: bool) -> list[str]:
    x, y = bits.place(point.bits), ratio.place(point.ratio.value)
    low, high = ratio.place(point.ratio.low), ratio.place(point.ratio.high)
    shown = f"{point.name}: {point.bits:.2f} bits, {point.ratio}"
    marks = [
        f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{colour}" stroke-width="2"/>',
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"><title>{escape(shown)}</title></circle>',
    ]
    return [*marks, *([f'<text x="{x + 9:.1f}" y="{y + 4:.1f}">{escape(point.name)}</text>'] if named else [])]


class _Axis:
    """From values to places; a little wider than the values."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        spread = max(values) - min(values) or abs(max(values)) or 1.0
        self._low, self._high = min(values) - 0.05 * spread, max(values) + 0.05 * spread
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        return self._start + (value - self._low) / (self._high - self._low) * (self._end - self._start)

    def ticks(self) -> list[float]:
        """Round values, about five."""
        rough = (self._high - self._low) / 5
        power = 10 ** math.floor(math.log10(rough))
        step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough)
        first = math.ceil(self._low / step)
        return [round(number * step, 10) for number in range(first, math.floor(self._high / step) + 1)]
