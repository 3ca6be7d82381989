"""The report as a page: one file, nothing loaded from anywhere, light and dark, every text of others escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

_TEMPLATE = Template((Path(__file__).parent / "page.html.txt").read_text())
_LABEL_WIDTH, _BAR_WIDTH, _WIDTH = 150, 470, 700
_BAR_HEIGHT, _GAP = 13, 14
_MAX_EXAMPLES = 200


def render_page(report: dict[str, Any]) -> str:
    """The whole page."""
    names = [target["name"] for target in report["targets"]]
    sections = [
        _chart(report["by_suite"], names),
        _table("By suite", "suite", report["by_suite"], names),
        _table("By disguise", "mutator", report["by_mutator"], names),
        _table("By category", "suite: category", report["by_category"], names),
        _table("Harmless questions refused", "suite: category", report["over_refusal"], names),
        _codes(report["codes"]),
        _examples(report["examples"]),
        _configuration(report),
    ]
    return _TEMPLATE.substitute(
        summary=escape(_summary(report)),
        notice="" if report["complete"] else '<p class="notice">This run was stopped before its end.</p>',
        tiles="".join(_tiles(report)),
        sections="\n".join(section for section in sections if section),
    )


def _summary(report: dict[str, Any]) -> str:
    targets = " and ".join(f"{target['name']} ({target['model']} at {target['url']})" for target in report["targets"])
    count = sum(sum(total["outcomes"].values()) for total in report["totals"])
    started = report["started"].replace("T", " ").replace("+00:00", " UTC")
    return f"{count} attempts on {targets}; {started}, {report['seconds']:.0f} s"


def _tiles(report: dict[str, Any]) -> Iterable[str]:
    for place, total in enumerate(report["totals"]):
        yield _tile(total["attacks"], f"attacks through at {total['target']}", place)
    if report["stopped"]:
        first, second = (total["target"] for total in report["totals"])
        yield _tile(report["stopped"]["stopped"], f"of what {second} let through, stopped by {first}", 2)
    for place, total in enumerate(report["totals"]):
        if total["over_refusal"]["total"]:
            yield _tile(total["over_refusal"], f"harmless refused at {total['target']}", place)


def _tile(share: dict[str, Any], label: str, place: int) -> str:
    rate = "–" if share["rate"] is None else f"{100 * share['rate']:.0f}%"
    interval = "" if share["rate"] is None else f"<br>95%: {_interval(share)}"
    count = f"{share['count']} of {share['total']}{interval}"
    return f'<div class="tile t{place}"><b>{rate}</b><span>{escape(label)}</span><small>{count}</small></div>'


def _interval(share: dict[str, Any]) -> str:
    return f"{100 * share['low']:.0f}–{100 * share['high']:.0f}%"


def _chart(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """Bars of every suite, one a target, each with its interval."""
    if not rows:
        return ""
    pitch = len(names) * _BAR_HEIGHT + _GAP
    height = len(rows) * pitch + 24
    grid = "".join(
        f'<line class="grid" x1="{x}" x2="{x}" y1="0" y2="{height - 20}"/>'
        f'<text class="axis" x="{x}" y="{height - 6}" text-anchor="middle">{step}%</text>'
        for step, x in ((step, _x(step / 100)) for step in (0, 25, 50, 75, 100))
    )
    bars = "".join(_bars(row, names, index * pitch) for index, row in enumerate(rows))
    legend = "".join(f'<span class="key k{place}">{escape(name)}</span>' for place, name in enumerate(names))
    return (
        f'<section><h2>Attacks that got through</h2><p class="legend">{legend}'
        "<span>whiskers: 95% interval (Wilson)</span></p>"
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="Share of attacks that got through, by suite">'
        f"{grid}{bars}</svg></section>"
    )


def _x(share: float) -> float:
    return round(_LABEL_WIDTH + share * _BAR_WIDTH, 1)


def _bars(row: dict[str, Any], names: Sequence[str], top: int) -> str:
    middle = top + _GAP / 2 + len(names) * _BAR_HEIGHT / 2 + 4
    parts = [f'<text x="{_LABEL_WIDTH - 12}" y="{middle}" text-anchor="end">{escape(str(row["group"])[:26])}</text>']
    for place, name in enumerate(names):
        share = row["shares"][name]
        if share["rate"] is None:
            continue
        y = top + _GAP / 2 + place * _BAR_HEIGHT
        low, high, line = _x(share["low"]), _x(share["high"]), y + (_BAR_HEIGHT - 2) / 2
        width = round(share["rate"] * _BAR_WIDTH, 1)
        parts.append(
            f'<rect class="bar b{place}" x="{_LABEL_WIDTH}" y="{y}" width="{width}" height="{_BAR_HEIGHT - 2}" rx="2"/>'
            f'<path class="whisker" d="M{low} {line}H{high}M{low} {line - 3}v6M{high} {line - 3}v6"/>'
            f'<text class="count" x="{_x(1) + 14}" y="{line + 4}">{share["count"]} of {share["total"]}</text>'
        )
    return "".join(parts)


def _table(title: str, first: str, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr><td>{escape(str(row['group']))}</td>"
        + "".join(_cell(row["shares"][name], place) for place, name in enumerate(names))
        + "</tr>"
        for row in rows
    )
    return f'<section><h2>{title}</h2><table><tr><th class="first">{first}</th>{head}</tr>{body}</table></section>'


def _cell(share: dict[str, Any], place: int) -> str:
    if share["rate"] is None:
        return '<td class="share">–</td>'
    width = round(100 * share["rate"], 1)
    return (
        f'<td class="share"><span class="meter"><i class="b{place}" style="width:{width}%"></i></span>'
        f"<b>{width:.0f}%</b><small>{share['count']}/{share['total']} · {_interval(share)}</small></td>"
    )


def _codes(codes: Sequence[dict[str, Any]]) -> str:
    if not codes:
        return ""
    body = "".join(
        f"<tr><td>{escape(str(code['target']))}</td><td>{escape(str(code['outcome']))}</td>"
        f"<td><code>{escape(str(code['code']))}</code></td><td>{code['count']}</td></tr>"
        for code in codes
    )
    head = '<tr><th class="first">target</th><th>outcome</th><th>code</th><th>attempts</th></tr>'
    return f"<section><h2>Blocked, and failed</h2><table>{head}{body}</table></section>"


def _examples(examples: Sequence[dict[str, Any]]) -> str:
    if not examples:
        return ""
    # What got through is what somebody looks for.
    chosen = sorted(examples, key=lambda example: example["outcome"] != "through")[:_MAX_EXAMPLES]
    shown = "".join(
        f"<details><summary><b class='{escape(example['outcome'])}'>{escape(example['outcome'])}</b> "
        f"{escape(example['case'])} · {escape(example['mutator'])} · {escape(example['target'])}</summary>"
        f"<pre>{escape(_transcript(example))}</pre></details>"
        for example in chosen
    )
    left = f"<p>{len(examples) - len(chosen)} more are in the JSON.</p>" if len(examples) > len(chosen) else ""
    return f"<section><h2>Examples</h2>{shown}{left}</section>"


def _transcript(example: dict[str, Any]) -> str:
    """Roles and texts; characters that no screen shows are written as escapes."""
    text = "\n\n".join(f"[{message['role']}]\n{message.get('content') or ''}" for message in example["messages"])
    return "".join(each if each.isprintable() or each == "\n" else f"\\u{{{ord(each):x}}}" for each in text)


def _configuration(report: dict[str, Any]) -> str:
    shown = {"targets": report["targets"], **report["configuration"]}
    text = escape(json.dumps(shown, indent=2, ensure_ascii=False))
    return f"<section><h2>Configuration</h2><pre>{text}</pre></section>"
