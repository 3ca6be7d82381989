"""The data card: what a data set is made of, what was dropped and why, how long its texts are, and their labels."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.data.files import JsonLines
from training.data.plots import bar_chart
from training.data.records import Record, Side
from training.data.steps import Step

CARD = "data-card.json"
_PAGE = "data-card.md"
_MOST_ROWS = 45
"""Of a plot."""


class Statistics:
    """Lengths and labels of what was written."""

    def __init__(self) -> None:
        self.lengths: dict[Side, Counter[int]] = {"train": Counter(), "heldout": Counter()}
        """By the power of two below the number of characters."""
        self.labels: dict[Side, Counter[str]] = {"train": Counter(), "heldout": Counter()}
        self.kind = ""

    def add(self, record: Record, side: Side, times: int = 1) -> None:
        """A record that was written so many times."""
        self.kind = record.kind
        self.lengths[side][max(len(record.text), 1).bit_length() - 1] += times
        for label in record.labels:
            self.labels[side][label] += times


def make_card(
    name: str,
    sources: Sequence[Mapping[str, Any]],
    steps: Sequence[Step],
    train: JsonLines,
    heldout: JsonLines,
    statistics: Statistics,
    split: Mapping[str, Any],
) -> dict[str, Any]:
    """The card as JSON; equal for equal data, wherever and whenever it is made."""
    labels = sorted({*statistics.labels["train"], *statistics.labels["heldout"]})
    powers = sorted({*statistics.lengths["train"], *statistics.lengths["heldout"]})
    return {
        "name": name,
        "kind": statistics.kind,
        "records": {"read": sum(source["rows"] for source in sources), "train": train.rows, "heldout": heldout.rows},
        "sources": list(sources),
        "steps": [step.report() for step in steps],
        "split": dict(split),
        "labels": {label: {side: statistics.labels[side][label] for side in statistics.labels} for label in labels},
        "characters": {
            str(1 << power): {side: statistics.lengths[side][power] for side in statistics.lengths} for power in powers
        },
        "files": {
            file.path.name: {"sha256": file.sha256, "bytes": file.size, "rows": file.rows} for file in (train, heldout)
        },
    }


def write_card(card: Mapping[str, Any], folder: Path) -> None:
    """The card for programs and for people, and its plots."""
    (folder / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    plots = {"lengths.svg": ("Characters, from", card["characters"]), "labels.svg": ("Labels", card["labels"])}
    shown = []
    for name, (title, counts) in plots.items():
        if counts:
            (folder / name).write_text(_plot(title, counts), encoding="utf-8")
            shown.append(f"![{title}]({name})")
    (folder / _PAGE).write_text("\n".join([card_text(card), *shown, ""]), encoding="utf-8")


def _plot(title: str, counts: Mapping[str, Mapping[str, int]]) -> str:
    if len(counts) > _MOST_ROWS:
        counts = dict(sorted(counts.items(), key=lambda item: -sum(item[1].values()))[:_MOST_ROWS])
        title = f"{title} (the commonest {_MOST_ROWS})"
    series = {side: [row[side] for row in counts.values()] for side in ("train", "heldout")}
    return bar_chart(title, list(counts), series)


def card_text(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    records = card["records"]
    lines = [
        f"# {card['name']}",
        "",
        f"{records['train']:,} records to train on, {records['heldout']:,} held out; {records['read']:,} were read.",
        f"Split by {card['split']['by']}: {card['split']['leaks']:,} held-out records are trained on too.",
        "",
        "| source | rows | bytes | SHA-256 |",
        "|---|---|---|---|",
        *(
            f"| {source['name']} | {source['rows']:,} | {source['bytes']:,} | `{source['sha256'][:16]}…` |"
            for source in card["sources"]
        ),
        "",
        "| step | in | changed | dropped | out |",
        "|---|---|---|---|---|",
    ]
    for step in card["steps"]:
        why = ", ".join(f"{count:,} {reason}" for reason, count in step["dropped"].items()) or "none"
        lines.append(f"| {step['step']} | {step['in']:,} | {step['changed']:,} | {why} | {step['out']:,} |")
    details = [
        f"- {step['step']}: {_counts(step['details'])}" for step in card["steps"] if any(step["details"].values())
    ]
    lines += ["", *details] if details else []
    samples = [
        f"- {reason} ({step['step']}): {_quoted(sample)}"
        for step in card["steps"]
        for reason, found in step["samples"].items()
        for sample in found
    ]
    if samples:
        lines += ["", "## Samples of what was dropped", "", "Personal data is masked.", "", *samples]
    if card["labels"]:
        lines += ["", "## Labels", "", "| label | train | heldout |", "|---|---|---|"]
        lines += [f"| {_cell(label)} | {n['train']:,} | {n['heldout']:,} |" for label, n in card["labels"].items()]
    return "\n".join([*lines, ""])


def _counts(details: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in details.items() if count)


def _quoted(sample: str) -> str:
    """A foreign text in Markdown, where it must be nothing but text."""
    ticks = "`" * (max(map(len, re.findall("`+", sample)), default=0) + 1)
    return f"{ticks} {sample} {ticks}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
