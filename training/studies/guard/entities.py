"""Personal data found in texts that nothing was tuned on, beside presidio, and what looking for it costs.

    python -m training.studies.guard.entities --data FOLDER [--presidio PYTHON]

The folder holds presidio-research's synthetic texts with their spans; PYTHON is the interpreter of an environment with
presidio-analyzer and a small spaCy model.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from serving.guard.detectors import default_detectors
from serving.guard.text.folding import fold
from training.studies.guard.costs import cost_lines
from training.studies.guard.peers.question import Answered, Peer, timed
from training.studies.sections import machine, write_section

COUNTED = frozenset((
    "PERSON", "STREET_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "US_SSN",
    "US_DRIVER_LICENSE",
))  # fmt: skip
"""Spans of the data that are to be found. Others (towns, organisations, dates …) are neither to be found nor wrong."""

ASKED_OF_PRESIDIO = (
    "PERSON", "LOCATION", "PHONE_NUMBER", "CREDIT_CARD", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "US_SSN",
    "US_DRIVER_LICENSE",
)  # fmt: skip
NOT_ASKED_OF_OURS = frozenset({"BIRTH_DATE", "DOMAIN_NAME", "POSTAL_CODE"})

_SEEN_BEFORE_THE_SPLIT = 4
"""Texts at the head of the file that were looked at to learn its format: their templates belong to development."""

Spans = Sequence[tuple[int, int]]


class Text(NamedTuple):
    """One text, the spans to be found, and those that are neither right nor wrong."""

    text: str
    counted: list[tuple[str, int, int]]
    others: list[tuple[int, int]]


class Score(NamedTuple):
    """Counts over all texts."""

    found: Counter[str]
    total: Counter[str]
    right: int
    wrong: int
    seconds: float
    num_texts: int

    @property
    def recall(self) -> float:
        return self.found.total() / self.total.total()

    @property
    def precision(self) -> float:
        return self.right / max(1, self.right + self.wrong)

    @property
    def f1(self) -> float:
        return 2 * self.precision * self.recall / (self.precision + self.recall)


def read_texts(folder: Path, development: bool) -> list[Text]:
    """One part of the data, split by template so that no sentence is on both sides."""
    records = json.loads((folder / "presidio_research" / "synth_dataset_v2.part.json").read_text())
    seen = {record["template_id"] for record in records[:_SEEN_BEFORE_THE_SPLIT]}
    return [_text(record) for record in records if _is_development(record["template_id"], seen) == development]


def _is_development(template: int, seen: set[int]) -> bool:
    return template in seen or int(hashlib.sha256(str(template).encode()).hexdigest(), 16) % 3 == 0


def _text(record: dict[str, Any]) -> Text:
    spans = [(span["entity_type"], span["start_position"], span["end_position"]) for span in record["spans"]]
    return Text(
        record["full_text"],
        [span for span in spans if span[0] in COUNTED],
        [(start, end) for entity, start, end in spans if entity not in COUNTED],
    )


def find(text: str) -> list[tuple[int, int]]:
    """What every detector finds in a whole text."""
    folded = fold(text)
    return [
        (span.start, span.end)
        for detector in default_detectors()
        if detector.entity not in NOT_ASKED_OF_OURS
        for span in detector.scan(folded, 0, True)[0]
    ]


def score(texts: Sequence[Text], answers: Sequence[Spans], seconds: float) -> Score:
    """A span of the data is found when at most a fifth of it survives; a found one is right when half of it is one.

    What lies by half or more in spans that are not counted is left out.
    """
    hit: Counter[str] = Counter()
    total: Counter[str] = Counter()
    right = wrong = 0
    for text, spans in zip(texts, answers, strict=True):
        masked = _covered(spans)
        for entity, start, end in text.counted:
            total[entity] += 1
            hit[entity] += len(masked & set(range(start, end))) >= 0.8 * (end - start)
        wanted = _covered([(start, end) for _, start, end in text.counted])
        neutral = _covered(text.others)
        for start, end in _merged(spans):
            places = set(range(start, end))
            if 2 * len(places & wanted) >= end - start:
                right += 1
            elif 2 * len(places & (neutral | wanted)) < end - start:
                wrong += 1
    return Score(hit, total, right, wrong, seconds, len(texts))


def _covered(spans: Spans) -> set[int]:
    return {place for start, end in spans for place in range(start, end)}


def _merged(spans: Spans) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def score_answered(texts: Sequence[Text], answered: Answered) -> Score:
    return score(texts, [[(start, end) for start, end in spans] for spans in answered.texts], answered.seconds)


def ask_presidio(texts: Sequence[Text], python: str, model: str) -> Answered:
    """Raises: PeerError."""
    peer = Peer(python, "presidio")
    try:
        return peer.ask("spans", [text.text for text in texts], entities=ASKED_OF_PRESIDIO, model=model)
    finally:
        peer.close()


def _table(scores: dict[str, Score]) -> list[str]:
    lines = ["| | precision | recall | F1 | ms a text |", "|---|---|---|---|---|"]
    for name, got in scores.items():
        cells = (got.precision, got.recall, got.f1, 1000 * got.seconds / got.num_texts)
        lines.append(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    entities = sorted(next(iter(scores.values())).total)
    lines += ["", "| found of | " + " | ".join(entities) + " |", "|---" * (len(entities) + 1) + "|"]
    for name, got in scores.items():
        lines.append(
            f"| {name} | " + " | ".join(f"{got.found[entity]} of {got.total[entity]}" for entity in entities) + " |"
        )
    return lines


def _print_misses(texts: Sequence[Text]) -> None:
    for text in texts:
        masked = _covered(find(text.text))
        for entity, start, end in text.counted:
            if len(masked & set(range(start, end))) < 0.8 * (end - start):
                click.echo(f"{entity}: {text.text[start:end]!r} in {text.text!r}")


def _section(scores: dict[str, Score], texts: Sequence[Text], command: str) -> list[str]:
    about = machine()
    ours = scores["signet"]
    lines = [
        f"`{command}`, {about['date']}; {about['cores']} cores ({about['cpu']}), Python {about['python']}, "
        f"load {about['load']}.",
        "",
        f"{len(texts)} synthetic texts of presidio-research (MIT) whose templates nothing was tuned on; the other "
        "third, by a hash of the template, was looked at. Found: at most a fifth of the span survives. Right: half "
        f"of what is masked lies in such a span. Counted: {', '.join(sorted(COUNTED))}.",
        "Towns, organisations, dates and other spans of the data are neither to be found nor wrong. All entities "
        "are on but dates of birth; presidio is asked for the same ones and for places.",
        "Milliseconds are of processor time, in one process each, one after the other, without loading.",
        "",
        *_table(scores),
        "",
        f"F1 {ours.f1:.2f}, bar 0.80: {'held' if ours.f1 >= 0.8 else '**not held**'}.",
    ]
    if "presidio-analyzer" in scores:
        ratio = scores["presidio-analyzer"].seconds / ours.seconds
        lines[-1] += f" {ratio:.1f} times as fast as presidio, bar 10: {'held' if ratio >= 10 else '**not held**'}."
    return lines


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, exists=True), help="Folder with the data sets.")
@click.option("--presidio", default=None, help="Python of an environment with presidio-analyzer.")
@click.option("--model", default="en_core_web_sm", show_default=True, help="spaCy model or its folder, for presidio.")
@click.option(
    "--prose", type=click.Path(path_type=Path), default=Path("docs/guides"), show_default=True, help="Markdown to time."
)
@click.option("--development", is_flag=True, help="Score the part that may be looked at, and print the misses.")
@click.option("--out", type=click.Path(path_type=Path), help="Page whose section `Personal data` is replaced.")
def main(data: Path, presidio: str | None, model: str, prose: Path, development: bool, out: Path | None) -> None:
    """Score what is found, then measure what it costs."""
    texts = read_texts(data, development)
    scores = {"signet": score_answered(texts, timed(find, [text.text for text in texts]))}
    if presidio is not None:
        scores["presidio-analyzer"] = score_answered(texts, ask_presidio(texts, presidio, model))
    if development:
        click.echo("\n".join(_table(scores)))
        _print_misses(texts)
        return
    command = "python -m training.studies.guard.entities --data FOLDER" + (" --presidio PYTHON" if presidio else "")
    lines = [*_section(scores, texts, command), "", "### What it costs", "", *cost_lines(prose)]
    click.echo("\n".join(lines))
    if out is not None:
        write_section(out, "Personal data", "\n".join(lines))


if __name__ == "__main__":
    main()
