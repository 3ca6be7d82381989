"""Attention as a picture: a square for each head, a row for each token that looks, the darker the more it looks there.

SVG, readable in light and in dark. One head alone is drawn large, with every weight to be had by pointing at it; the
heads of one layer stand side by side with labels; all heads of a model are thumbnails, a row for each layer.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from html import escape

import torch

from training.data.plots import STYLE
from training.explain.attention import Attention

_INK = (0x00, 0x72, 0xB2)
_STYLE = (
    STYLE + "text{font-size:11px}.small{font-size:10px}.token{font-family:ui-monospace,monospace}"
    ".frame{fill:none;stroke:#8888}image{image-rendering:pixelated}.cell{fill:#0072b2}"
    "@media(prefers-color-scheme:dark){.cell{fill:#56b4e9}image{filter:brightness(1.7)}}"
)
_CHARACTER = 6.7
"""Width of a character of a label, in pixels."""
_LONGEST_LABEL = 14
_THUMBNAIL = 64
_GAP = 10
_CAPTION = "rows look at columns, the darker the more"
_LABELLED_AT_MOST = 16
"""Squares that are given labels of their own."""


def attention_map(title: str, attention: Attention, chosen: Sequence[tuple[int, int]]) -> str:
    """Draw these heads, each (layer, head)."""
    if len(chosen) == 1:
        return _large(title, attention, *chosen[0])
    if len(chosen) <= _LABELLED_AT_MOST:
        return _labelled(title, attention, chosen)
    return _thumbnails(title, attention, chosen)


def _large(title: str, attention: Attention, layer: int, head: int) -> str:
    rows, columns = _shown(attention.tokens), _shown(attention.looked_at)
    cell = 24 if len(columns) <= 32 else 14
    left, top = _margin(rows), 52 + _margin(columns)
    weights_LM = attention.weights_ANLM[layer, head]
    title = f"{title}: layer {layer}, head {head}"
    parts = [_text(10, 20, title, "title"), _text(10, 38, _CAPTION)]
    parts += _axes(rows, columns, left, top, cell)
    for row, weights in enumerate(weights_LM.tolist()):
        for column, weight in enumerate(weights):
            # Not to be seen, and most of a long text's weights.
            if weight < 0.001:
                continue
            said = escape(f"{rows[row]} looks at {columns[column]}: {weight:.3f}")
            parts.append(
                f'<rect class="cell" x="{left + column * cell}" y="{top + row * cell}" width="{cell}" height="{cell}"'
                f' fill-opacity="{weight:.3f}"><title>{said}</title></rect>'
            )
    width, height = left + cell * len(columns), top + cell * len(rows)
    parts.append(_frame(left, top, cell * len(columns), cell * len(rows)))
    return _svg(title, width + 20, height + 14, parts)


def _labelled(title: str, attention: Attention, chosen: Sequence[tuple[int, int]]) -> str:
    rows, columns = _shown(attention.tokens), _shown(attention.looked_at)
    cell = 14 if len(columns) <= 24 else 12
    left, above = _margin(rows), 22 + _margin(columns)
    width, height = left + cell * len(columns) + _GAP, above + cell * len(rows) + _GAP
    across = min(len(chosen), max(1, 1200 // width))
    parts = [_text(10, 20, title, "title"), _text(10, 38, _CAPTION)]
    for number, (layer, head) in enumerate(chosen):
        x, y = number % across * width, 48 + number // across * height
        parts.append(_text(x + left, y + 12, f"layer {layer}, head {head}"))
        parts += _axes(rows, columns, x + left, y + above, cell)
        parts.append(_square(attention, layer, head, x + left, y + above, cell * len(columns), cell * len(rows)))
    down = -(-len(chosen) // across)
    return _svg(title, across * width + 10, 48 + down * height + 4, parts)


def _thumbnails(title: str, attention: Attention, chosen: Sequence[tuple[int, int]]) -> str:
    layers, heads = ([*dict.fromkeys(head[index] for head in chosen)] for index in (0, 1))
    left, top, step = 70, 62, _THUMBNAIL + _GAP
    width = max(left + step * len(heads) + 10, 720)
    lines = _token_lines(_shown(attention.looked_at), int((width - 20) / _CHARACTER))
    top += 16 * len(lines)
    parts = [_text(10, 20, title, "title")]
    parts += [_text(10, 42 + 16 * number, line, "token") for number, line in enumerate(lines)]
    parts += [_text(left + step * column, top - 6, f"head {head}", "small") for column, head in enumerate(heads)]
    for row, layer in enumerate(layers):
        y = top + row * step
        parts.append(_text(left - 8, y + _THUMBNAIL / 2 + 4, f"layer {layer}", "small", "end"))
        for column, head in enumerate(heads):
            parts.append(_square(attention, layer, head, left + column * step, y, _THUMBNAIL, _THUMBNAIL))
    return _svg(title, width, top + step * len(layers) + 4, parts)


def _axes(rows: Sequence[str], columns: Sequence[str], left: float, top: float, cell: float) -> list[str]:
    """Who looks, to the left; what is looked at, above, turned."""
    parts = [
        _text(left - 6, top + (row + 0.5) * cell + 4, label, "token small", "end") for row, label in enumerate(rows)
    ]
    for column, label in enumerate(columns):
        x, y = left + (column + 0.5) * cell + 4, top - 6
        turned = f' transform="rotate(-90 {x:.1f} {y:.1f})"'
        parts.append(f'<text class="token small" x="{x:.1f}" y="{y:.1f}"{turned}>{escape(label)}</text>')
    return parts


def _square(attention: Attention, layer: int, head: int, x: float, y: float, width: float, height: float) -> str:
    data = base64.b64encode(_png(attention.weights_ANLM[layer, head])).decode()
    return (
        f'<image x="{x}" y="{y}" width="{width}" height="{height}" preserveAspectRatio="none"'
        f' href="data:image/png;base64,{data}"><title>layer {layer}, head {head}</title></image>'
        + _frame(x, y, width, height)
    )


def _png(weights_LM: torch.Tensor) -> bytes:
    """A pixel for each weight: one ink, as opaque as the weight (PNG specification, colour type 6).

    A picture within the picture, since a rectangle for each weight of each head would take megabytes.
    """
    opacity = (weights_LM.clamp(0, 1) * 255).round().to(torch.uint8).tolist()
    raw = b"".join(b"\0" + b"".join(bytes((*_INK, alpha)) for alpha in row) for row in opacity)
    height, width = weights_LM.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def _token_lines(labels: Sequence[str], most: int) -> list[str]:
    """The tokens in their order, for pictures whose squares have no labels."""
    lines = [f"{_CAPTION}; in order: "]
    for label in labels:
        if len(lines[-1]) + len(label) + 1 > most:
            lines.append("")
        lines[-1] += f"{label} "
    return [line.strip() for line in lines]


def _shown(labels: Sequence[str]) -> list[str]:
    return [label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…" for label in labels]


def _margin(labels: Sequence[str]) -> int:
    return 14 + round(_CHARACTER * max(map(len, labels)))


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _frame(x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="frame" x="{x}" y="{y}" width="{width}" height="{height}"/>'


def _svg(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    # As wide as its title needs, too.
    width = max(width, 40 + 8.5 * len(title))
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}'
    return "\n".join(
        [f'{head} role="img" aria-label="{escape(title)}">', f"<style>{_STYLE}</style>", *parts, "</svg>", ""]
    )
