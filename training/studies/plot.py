"""Plots of studies as SVG: lines over an axis, or a row for each figure, with intervals as whiskers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from training.data.plots import STYLE
from training.evaluate.scores import Score
from training.studies.study import Axis

Lines = Mapping[str, Mapping[float, Score]]

# Told apart by most people with a colour vision deficiency, on white and on black (Okabe and Ito 2008).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
MARKS = ("circle", "square", "diamond", "triangle", "circle", "square")
_STYLE = (
    STYLE + ".axis{stroke:#999}.grid{stroke:#8884}.axis,.grid{stroke-width:1}.tick{font-size:12px}"
    ".line{fill:none;stroke-width:2}.whisker{stroke-width:1.5}"
)

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 74, 24, 74, 54
ROW = 26
ASIDE = 3


def line_plot(title: str, lines: Lines, x: Axis, y: Axis) -> str:
    """Means as marks joined by lines; where an interval is too small to see, the mark hides it."""
    points = [(at, score) for line in lines.values() for at, score in line.items()]
    xs, ys = (
        Scale(x, [at for at, _ in points], LEFT, WIDTH - RIGHT),
        Scale(y, _bounds(score for _, score in points), HEIGHT - BOTTOM, TOP),
    )
    parts = [*_head(title, HEIGHT), *_legend(list(lines))]
    for tick in ys.ticks():
        at = ys(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>')
    marked = _thinned(sorted({at for at, _ in points}), xs)
    parts += [_under(xs(tick), HEIGHT - BOTTOM + 18, _number(tick)) for tick in marked]
    parts.append(_under((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x.name, ""))
    parts.append(f'<text x="10" y="{TOP - 14}">{escape(y.name)}</text>')
    for number, line in enumerate(lines.values()):
        # Side by side, so that no whisker hides another's.
        aside = ASIDE * (number - (len(lines) - 1) / 2)
        parts += _line(number, [(xs(at) + aside, ys(s.value), ys(s.low), ys(s.high)) for at, s in sorted(line.items())])
    return "\n".join([*parts, "</svg>", ""])


def row_plot(title: str, rows: Mapping[str, Score], unit: str) -> str:
    """A row for each figure, its mean and interval along one axis."""
    left, height = 300, TOP + ROW * len(rows) + BOTTOM
    xs = Scale(Axis(unit), _bounds(rows.values()), left, WIDTH - RIGHT)
    parts, end = _head(title, height), height - BOTTOM
    for tick in xs.ticks():
        parts.append(f'<line class="grid" x1="{xs(tick):.1f}" x2="{xs(tick):.1f}" y1="{TOP - 20}" y2="{end}"/>')
        parts.append(_under(xs(tick), end + 18, _number(tick)))
    for number, (name, score) in enumerate(rows.items()):
        at = TOP + ROW * number
        parts.append(f'<text x="{left - 12}" y="{at + 4}" text-anchor="end">{escape(name)}</text>')
        low, high = xs(score.low), xs(score.high)
        parts.append(
            f'<line class="whisker" stroke="{COLOURS[0]}" x1="{low:.1f}" x2="{high:.1f}" y1="{at}" y2="{at}"/>'
        )
        parts.append(_mark("circle", COLOURS[0], xs(score.value), at))
    parts.append(_under((left + WIDTH - RIGHT) / 2, height - 10, unit, ""))
    return "\n".join([*parts, "</svg>", ""])


class Scale:
    """From values of an axis to places of the picture."""

    def __init__(self, axis: Axis, values: Sequence[float], begin: float, end: float) -> None:
        self._is_log = axis.is_log
        # An interval may reach to zero and below, where a logarithmic axis has no place: it goes to the edge.
        placed = [value for value in values if value > 0 or not axis.is_log]
        low, high = min(placed), max(placed)
        if low == high:
            low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
        self._low, self._high = self._place(low), self._place(high)
        margin = 0.04 * (self._high - self._low)
        self._low, self._high = self._low - margin, self._high + margin
        self._begin, self._end = begin, end

    def __call__(self, value: float) -> float:
        if self._is_log and value <= 0:
            return self._begin
        part = (self._place(value) - self._low) / (self._high - self._low)
        return self._begin + part * (self._end - self._begin)

    def ticks(self) -> list[float]:
        """Some five round values; of a logarithmic axis 1, 2 and 5 times powers of ten."""
        if self._is_log:
            low, high = math.exp(self._low), math.exp(self._high)
            powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            round_values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
            ticks = [value for value in round_values if low <= value <= high]
            if len(ticks) >= 2:
                return ticks if len(ticks) <= 9 else [tick for tick in ticks if math.log10(tick).is_integer()]
        low, high = (math.exp(edge) if self._is_log else edge for edge in (self._low, self._high))
        raw = (high - low) / 5
        size = 10 ** math.floor(math.log10(raw))
        step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= raw)
        return [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]

    def _place(self, value: float) -> float:
        return math.log(value) if self._is_log else value


def _head(title: str, height: int) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="10" y="20">{escape(title)}</text>',
    ]


def _under(x: float, y: float, text: str, kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" text-anchor="middle">{escape(text)}</text>'


def _legend(names: Sequence[str]) -> list[str]:
    parts, x = [], 10.0
    for number, name in enumerate(names):
        parts.append(_mark(MARKS[number % len(MARKS)], COLOURS[number % len(COLOURS)], x + 5, 38))
        parts.append(f'<text x="{x + 15}" y="42">{escape(name)}</text>')
        x += 36 + 6.8 * len(name)
    return parts


def _line(number: int, places: Sequence[tuple[float, float, float, float]]) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in places)
    parts = [f'<polyline class="line" stroke="{colour}" points="{path}"/>']
    for x, y, low, high in places:
        parts.append(
            f'<line class="whisker" stroke="{colour}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        )
        parts.append(_mark(MARKS[number % len(MARKS)], colour, x, y))
    return parts


def _mark(kind: str, colour: str, x: float, y: float) -> str:
    if kind == "circle":
        return f'<circle fill="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    shapes: dict[str, list[tuple[float, float]]] = {
        "square": [(-4, -4), (4, -4), (4, 4), (-4, 4)],
        "diamond": [(0, -6), (6, 0), (0, 6), (-6, 0)],
        "triangle": [(0, -6), (5.5, 4.5), (-5.5, 4.5)],
    }
    points = " ".join(f"{x + right:.1f},{y + down:.1f}" for right, down in shapes[kind])
    return f'<polygon fill="{colour}" points="{points}"/>'


def _bounds(scores: Iterable[Score]) -> list[float]:
    return [bound for score in scores for bound in (score.low, score.high)]


def _thinned(values: Sequence[float], scale: Scale) -> list[float]:
    """Those whose labels do not run into each other."""
    kept: list[float] = []
    for value in values:
        if not kept or scale(value) - scale(kept[-1]) >= 44:
            kept.append(value)
    return kept


def _number(value: float) -> str:
    return f"{round(value, 10):,.6g}" if abs(value) < 100_000 else f"{value / 1000:,.3g}k"
