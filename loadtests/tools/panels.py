"""A dashboard as a picture: each panel with what its own queries answer, as SVG, for where there is no Grafana."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from loadtests.tools.prometheus import Line, Prometheus
from monitoring.dashboards import Dashboard, Panel

_WIDTH, _COLUMN, _ROW = 1440, 60, 30
_COLOURS = (
    "#7eb26d",
    "#eab839",
    "#6ed0e0",
    "#ef843c",
    "#e24d42",
    "#1f78c1",
    "#ba43a9",
    "#705da0",
    "#508642",
    "#cca300",
)
_MAX_LINES = 5


@dataclass(frozen=True)
class Drawn:
    """A panel with its answers: the legend and the series of each line."""

    panel: Panel
    lines: list[tuple[str, Line]]

    @property
    def is_empty(self) -> bool:
        """Whether some query of it has no number at all."""
        return not self.lines or not any(line.has_values for _, line in self.lines)


def answered(query: str, rate_interval: str) -> str:
    """A panel's query with what Grafana puts in place of its variables: everything."""
    for name in ("$namespace", "$model"):
        query = query.replace(name, ".*")
    return query.replace("$__rate_interval", rate_interval)


def asked(
    dashboard: Dashboard, prometheus: Prometheus, start: float, end: float, rate_interval: str
) -> tuple[list[Drawn], list[str]]:
    """All panels with their answers, and the queries that have none."""
    drawn, empty = [], []
    for panel in dashboard.panels:
        lines = []
        for query in panel.queries:
            expr = answered(query.expr, rate_interval)
            found = prometheus.query_range(expr, start, end, max(1.0, (end - start) / 120))
            if not any(line.has_values for line in found):
                empty.append(f"{dashboard.title}: {panel.title}: {expr}")
            lines += [(_legend(query.legend, line), line) for line in found]
        drawn.append(Drawn(panel, lines))
    return drawn, empty


def _legend(text: str, line: Line) -> str:
    if not text:
        return ", ".join(f"{name} {value}" for name, value in line.labels.items() if name != "namespace")
    return re.sub(r"{{(\w+)}}", lambda label: line.labels.get(label[1], ""), text)


def picture(dashboard: Dashboard, drawn: list[Drawn]) -> str:
    """The dashboard as an SVG."""
    by_title = {each.panel.title: each for each in drawn}
    shown = dashboard.json()["panels"]
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in shown)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom * _ROW}" role="img"'
        f' font-family="sans-serif" font-size="12"><title>{escape(dashboard.title)}</title>'
        f'<rect width="{_WIDTH}" height="{bottom * _ROW}" fill="#f4f5f5"/>'
    ]
    for panel in shown:
        at = panel["gridPos"]
        x, y, width, height = at["x"] * _COLUMN, at["y"] * _ROW, at["w"] * _COLUMN, at["h"] * _ROW
        if panel["type"] == "row":
            parts.append(f'<text x="8" y="{y + 20}" font-weight="bold">{escape(panel["title"])}</text>')
            continue
        parts.append(f'<g transform="translate({x + 4},{y + 4})">')
        parts += _panel(by_title[panel["title"]], width - 8, height - 8)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _panel(drawn: Drawn, width: int, height: int) -> Iterator[str]:
    panel = drawn.panel
    yield f'<rect width="{width}" height="{height}" fill="#fff" stroke="#dcdcdc"/>'
    yield f'<text x="8" y="18" font-weight="bold" fill="#333">{escape(panel.title)}</text>'
    if drawn.is_empty:
        yield f'<text x="{width / 2}" y="{height / 2}" text-anchor="middle" fill="#a00">No data</text>'
    elif panel.kind == "stat":
        value = _last(drawn.lines[0][1])
        shown = (panel.words or {}).get(round(value), _number(value, panel.unit))
        colour = next((name for at, name in reversed(panel.steps) if value >= at), panel.starts)
        yield f'<rect x="1" y="26" width="{width - 2}" height="{height - 27}" fill="{colour}" opacity=".75"/>'
        yield f'<text x="{width / 2}" y="{height - 28}" font-size="30" text-anchor="middle" fill="#fff">{shown}</text>'
    elif panel.kind == "table":
        for number, (legend, _) in enumerate(drawn.lines[:8]):
            yield f'<text x="8" y="{42 + 18 * number}" fill="#333">{escape(_cut(legend, width))}</text>'
    else:
        yield from _chart(drawn, width, height)


def _chart(drawn: Drawn, width: int, height: int) -> Iterator[str]:
    lines = [(legend, line) for legend, line in drawn.lines if line.has_values]
    lines.sort(key=lambda each: -_last(each[1]))
    times = [time for _, line in lines for time, _ in line.points]
    start, end = min(times), max(times) + 1e-9
    tops = [value for _, line in lines for _, value in line.points if math.isfinite(value)]
    top = drawn.panel.top or 1.05 * max(0.0, *tops) or 1.0
    bottom = 1.05 * min(0.0, *tops) if drawn.panel.is_signed else 0.0
    shown = lines[:_MAX_LINES]
    left, right, above = 58, width - 10, 34
    below = height - 22 - 15 * (len(shown) + (len(lines) > _MAX_LINES))
    for share in (0.0, 0.5, 1.0):
        y = below - share * (below - above)
        yield f'<line x1="{left}" x2="{right}" y1="{y}" y2="{y}" stroke="#e6e6e6"/>'
        label = _number(bottom + share * (top - bottom), drawn.panel.unit)
        yield f'<text x="{left - 4}" y="{y + 4}" text-anchor="end" fill="#666" font-size="11">{label}</text>'
    for number, (legend, line) in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        dots = " ".join(
            f"{left + (right - left) * (time - start) / (end - start):.1f},"
            f"{below - (below - above) * (min(max(value, bottom), top) - bottom) / (top - bottom):.1f}"
            for time, value in line.points
            if math.isfinite(value)
        )
        yield f'<polyline points="{dots}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        if number < _MAX_LINES:
            y = below + 20 + 15 * number
            yield f'<rect x="10" y="{y - 8}" width="10" height="3" fill="{colour}"/>'
            text = escape(_cut(f"{_number(_last(line), drawn.panel.unit)}  {legend}", width - 20))
            yield f'<text x="26" y="{y}" fill="#333" font-size="11">{text}</text>'
    if len(lines) > _MAX_LINES:
        yield (
            f'<text x="26" y="{below + 20 + 15 * _MAX_LINES}" fill="#666" font-size="11">'
            f"and {len(lines) - _MAX_LINES} more</text>"
        )


def _last(line: Line) -> float:
    return next((value for _, value in reversed(line.points) if math.isfinite(value)), math.nan)


def _cut(text: str, width: int) -> str:
    most = int(width / 7)
    return text if len(text) <= most else text[: most - 1] + "…"


def _number(value: float, unit: str) -> str:
    match unit:
        case "percentunit":
            return f"{100 * value:.4g}%"
        case "s" if abs(value) < 1:
            return f"{1000 * value:.3g} ms"
        case "s":
            return f"{value:.3g} s"
        case "bytes":
            return f"{value / 2**20:.0f} MiB"
        case "reqps" | "ops":
            return f"{value:.3g}/s"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
