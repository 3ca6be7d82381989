"""The history of a search as SVG: every trial, and the best so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from training.data.plots import STYLE

_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 40, 40


def history_chart(title: str, points: Sequence[tuple[int, float | None]], direction: str) -> str:
    """`points` are trials' numbers and figures; a trial without one, which was pruned, is a tick at the bottom."""
    values = sorted(value for _, value in points if value is not None and math.isfinite(value))
    low, high = values[0], values[-1]
    # A few hopeless trials must not press all others onto a line.
    if direction == "minimize":
        high = min(high, values[math.ceil(0.9 * (len(values) - 1))])
    else:
        low = max(low, values[math.floor(0.1 * (len(values) - 1))])
    last = max(1, *(number for number, _ in points))
    spread = (high - low) or 1.0

    def x(number: int) -> float:
        return _LEFT + number / last * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        share = min(1.0, max(0.0, (value - low) / spread))
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="10" y="20">{escape(title)}</text>',
        *(f'<text x="{_LEFT - 8}" y="{y(end) + 4:.1f}" text-anchor="end">{end:.4g}</text>' for end in {low, high}),
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 12}" text-anchor="end">trial {last}</text>',
    ]
    steps: list[str] = []
    best: float | None = None
    for number, value in points:
        if value is None:
            parts.append(f'<path d="M{x(number):.1f} {_HEIGHT - _BOTTOM + 4}v6" stroke="#888"/>')
            continue
        better = best is None or (value < best if direction == "minimize" else value > best)
        if better:
            steps.append(f"{'H' if steps else 'M'}{x(number):.1f}{'V' if steps else ' '}{y(value):.1f}")
            best = value
        parts.append(f'<circle cx="{x(number):.1f}" cy="{y(value):.1f}" r="3" fill="#2f6f9f"/>')
    path = "".join(steps) + f"H{x(last):.1f}"
    parts.append(f'<path d="{path}" fill="none" stroke="#d08a2e" stroke-width="2"/>')
    return "\n".join([*parts, "</svg>", ""])
