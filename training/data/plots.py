"""Bar charts as SVG, without a package: readable beside the text, by screen readers too, in light and in dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH = 720
_LABEL_WIDTH = 190
_ROW = 22
_TOP = 54
COLOURS = ("#2f6f9f", "#d08a2e", "#5b8f4d", "#8d5a97")
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.title{font-weight:600;font-size:15px}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
)


def bar_chart(title: str, rows: Sequence[str], series: Mapping[str, Sequence[int]]) -> str:
    """One row a name, in it one bar a series; the numbers stand beside the bars."""
    largest = max((value for values in series.values() for value in values), default=0) or 1
    height = _TOP + len(rows) * _ROW + 10
    space = _WIDTH - _LABEL_WIDTH - 130
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"',
        f' aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="10" y="20">{escape(title)}</text>',
    ]
    for number, name in enumerate(series):
        x = 10 + number * 110
        parts.append(f'<rect x="{x}" y="30" width="10" height="10" fill="{COLOURS[number]}"/>')
        parts.append(f'<text x="{x + 15}" y="40">{escape(name)}</text>')
    thickness = (_ROW - 4) / max(len(series), 1)
    for row, label in enumerate(rows):
        y = _TOP + row * _ROW
        shown = label if len(label) <= 28 else label[:27] + "…"
        parts.append(f'<text x="{_LABEL_WIDTH - 8}" y="{y + 14}" text-anchor="end">{escape(shown)}</text>')
        widest = 0.0
        for number, values in enumerate(series.values()):
            width = values[row] / largest * space
            widest = max(widest, width)
            place = y + number * thickness
            parts.append(
                f'<rect x="{_LABEL_WIDTH}" y="{place:.1f}" width="{width:.1f}" height="{thickness:.1f}" '
                f'fill="{COLOURS[number]}"/>'
            )
        counts = " · ".join(f"{values[row]:,}" for values in series.values())
        parts.append(f'<text x="{_LABEL_WIDTH + widest + 6:.1f}" y="{y + 14}">{counts}</text>')
    return "\n".join([*parts, "</svg>", ""])
