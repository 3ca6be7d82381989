"""Cost a month against load, as SVG: engines come whole, so what is rented or owned climbs in steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from monitoring.plan.cost import owned, rented, tokens_per_month
from monitoring.plan.energy import energy_of
from monitoring.plan.planning import Plan

# Told apart by most people with a colour vision deficiency, on white and on black (Okabe and Ito 2008).
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00")
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.title{font-weight:600;font-size:15px}.tick{font-size:12px}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}}.axis{stroke:#999}.grid{stroke:#8884}"
    ".line{fill:none;stroke-width:2.5}.asked{stroke:#888;stroke-dasharray:4 4}"
)
_WIDTH, _HEIGHT = 840, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 250, 56, 56
_POINTS = 160
_SPAN = 16
_APART = 17


@dataclass(frozen=True)
class Curve:
    """One way to pay, over loads."""

    name: str
    points: Sequence[tuple[float, float]]
    """Requests a second, and US dollars a month."""
    in_steps: bool


def curves(plan: Plan) -> list[Curve]:
    """The cheapest cloud, servers of one's own where their price is known, the cheapest and the dearest interface."""
    asked = plan.question.load.requests_per_s
    low = min(asked, plan.capacity.per_engine) / _SPAN
    high = max(asked, plan.capacity.per_engine) * _SPAN
    loads = [low * (high / low) ** (index / _POINTS) for index in range(_POINTS + 1)]
    found = []
    if plan.rented:
        found.append(Curve("the cheapest cloud", [(load, _rent(plan, load)) for load in loads], True))
    if plan.owned:
        found.append(Curve("on premises", [(load, _own(plan, load)) for load in loads], True))
    ends = [plan.bought[0], plan.bought[-1]] if len(plan.bought) > 1 else plan.bought
    for offer in ends:
        per_request = offer.usd_per_month / plan.question.average_requests_per_s
        share = plan.question.average_requests_per_s / asked
        points = [(load, load * share * per_request) for load in loads]
        found.append(Curve(f"{offer.model}, {offer.provider}", points, False))
    return found


def _devices(plan: Plan, load: float) -> int:
    return max(math.ceil(load / plan.capacity.per_engine * (1 - 1e-9)), 1) * plan.question.devices


def _rent(plan: Plan, load: float) -> float:
    return rented(plan.question.accelerator.name, _devices(plan, load), plan.question.choices)[0].usd_per_month


def _own(plan: Plan, load: float) -> float:
    """With each engine as busy as at the load that was asked about."""
    question, served = plan.question, plan.capacity.served
    assert served is not None
    devices = _devices(plan, load)
    month = tokens_per_month(load, question.load.prompt_tokens, question.load.answer_tokens)
    engines = devices // question.devices
    energy = energy_of(question.accelerator, question.devices, engines, served, month.answer, question.grid)
    costs = owned(question.accelerator.name, devices, energy, question.choices)
    assert costs is not None
    return costs.usd_per_month


def as_svg(plan: Plan) -> str:
    """The picture; raises ValueError where nothing can be drawn."""
    if not plan.capacity.engines:
        raise ValueError("nothing holds the load, so there is no cost to draw")
    drawn = curves(plan)
    xs = _Scale([load for load, _ in drawn[0].points], _LEFT, _WIDTH - _RIGHT)
    ys = _Scale([usd for curve in drawn for _, usd in curve.points], _HEIGHT - _BOTTOM, _TOP)
    question = plan.question
    title = f"{question.model} on {question.devices} x {question.accelerator.name}: cost of a month"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        f' aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="10" y="22">{escape(title)}</text>',
        '<text class="tick" x="10" y="42">US dollars a month; clouds rent whole instances</text>',
    ]
    end = _HEIGHT - _BOTTOM
    for tick in ys.ticks():
        parts.append(_horizontal(ys(tick)))
        parts.append(_tick(_LEFT - 8, ys(tick) + 4, "end", _money(tick)))
    parts += [_tick(xs(tick), end + 18, "middle", f"{tick:g}") for tick in xs.ticks()]
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{end}" y2="{end}"/>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 12}" text-anchor="middle">requests a second, at the busiest</text>')
    asked = xs(question.load.requests_per_s)
    parts.append(f'<line class="asked" x1="{asked:.1f}" x2="{asked:.1f}" y1="{_TOP}" y2="{end}"/>')
    parts.append(f'<text class="tick" x="{asked + 5:.1f}" y="{end - 8}">asked for</text>')
    for number, curve in enumerate(drawn):
        parts.append(_line(curve, xs, ys, _COLOURS[number % len(_COLOURS)]))
    parts += _names(drawn, ys)
    return "\n".join([*parts, "</svg>", ""])


class _Scale:
    """Logarithmic, from values to places."""

    def __init__(self, values: Sequence[float], begin: float, end: float) -> None:
        placed = [value for value in values if value > 0]
        self._low, self._high = math.log(min(placed)), math.log(max(placed))
        self._begin, self._end = begin, end

    def __call__(self, value: float) -> float:
        part = (math.log(value) - self._low) / ((self._high - self._low) or 1)
        return self._begin + part * (self._end - self._begin)

    def ticks(self) -> list[float]:
        """Powers of ten, with 2 and 5 between them where there is room."""
        powers = range(math.floor(self._low / math.log(10)), math.ceil(self._high / math.log(10)) + 1)
        fine = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        inside = [tick for tick in fine if self._low <= math.log(tick) <= self._high]
        return inside if len(inside) <= 8 else [tick for tick in inside if round(math.log10(tick), 9).is_integer()]


def _horizontal(at: float) -> str:
    return f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'


def _tick(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _line(curve: Curve, xs: _Scale, ys: _Scale, colour: str) -> str:
    places: list[tuple[float, float]] = []
    for load, usd in curve.points:
        place = (xs(load), ys(usd))
        if curve.in_steps and places:
            places.append((place[0], places[-1][1]))
        places.append(place)
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline class="line" stroke="{colour}" points="{path}"/>'


def _names(drawn: Sequence[Curve], ys: _Scale) -> list[str]:
    """At the lines' ends, moved apart where they would cover one another."""
    ends = sorted((ys(curve.points[-1][1]), number, curve.name) for number, curve in enumerate(drawn))
    parts, last = [], -math.inf
    for at, number, name in ends:
        last = max(at, last + _APART)
        colour = _COLOURS[number % len(_COLOURS)]
        x = _WIDTH - _RIGHT + 8
        parts.append(f'<rect x="{x}" y="{last - 5:.1f}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text class="tick" x="{x + 15}" y="{last + 4:.1f}">{escape(name)}</text>')
    return parts


def _money(usd: float) -> str:
    return f"${usd:,.0f}" if usd >= 1 else f"${usd:g}"
