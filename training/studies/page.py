"""A study's page: the claim, the number, the verdict, every figure, and how to have them again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from training.errors import DataError
from training.evaluate.scores import Score
from training.studies import STUDIES
from training.studies.plot import line_plot, row_plot
from training.studies.study import Result, Study, explanation, find_study

INDEX = "README.md"


def write_pages(result: Result, folder: Path) -> None:
    """Keep a result as JSON, and write its page, its plot and the index of all that were run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{result.name}.json").write_text(json.dumps(result.as_json(), indent=1) + "\n")
    for name, content in pages(folder).items():
        (folder / name).write_text(content)


def pages(folder: Path) -> dict[str, str]:
    """Every file that the results of a folder lead to, by name."""
    found: dict[str, str] = {}
    results = {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}
    for name, result in results.items():
        found |= {f"{name}.md": page(result), f"{name}.svg": picture(result)}
    return {**found, INDEX: index(results)}


def page(result: Result) -> str:
    study, number = find_study(result.name), result.number
    title, method = explanation(result.name)
    command, versions = result.command, ", ".join(f"{name} {version}" for name, version in result.versions.items())
    lines = [
        f"# {title}",
        "",
        f"**Claim.** {study.claim}",
        "",
        f"**Number.** {study.number}: {with_interval(number)}; the claim holds {study.holds} {study.bar:g}.",
        "",
        f"**Verdict.** {study.verdict(number).capitalize()}.",
        "",
        f"![{title}]({result.name}.svg)",
        "",
        method,
        "",
        *figures(study, result.table()),
        "",
        f"Means over {len(result.samples)} seeds with their 95% intervals (Student's t). Run on {result.date} with",
        f"`{command}` in {result.seconds:.0f} s, {versions}. Each seed's figures:",
        f"[{result.name}.json]({result.name}.json).",
    ]
    return "\n".join(lines) + "\n"


def figures(study: Study, table: Mapping[str, Score]) -> list[str]:
    """The table, as Markdown."""
    rows = [f"| {name} | {with_interval(score)} |" for name, score in table.items()]
    return ["| figure | mean and interval |", "|---|---|", *rows]


def picture(result: Result) -> str:
    study = find_study(result.name)
    lines, title = result.lines(), explanation(result.name)[0]
    return line_plot(title, lines, study.x, study.y) if lines else row_plot(title, result.table(), study.y.name)


def index(results: Mapping[str, Result]) -> str:
    lines = [
        "# Studies",
        "",
        "Claims that can be run again: `signet study NAME`, or all of them with `make studies`. Each has a number with",
        "an interval over seeds, and a verdict: held, not held, or undecided where the interval reaches over the bar.",
        "Models are small enough for a CPU: what holds of them need not hold of large ones.",
        "",
        "| study | claim | number | verdict |",
        "|---|---|---|---|",
    ]
    for name in STUDIES:
        if name not in results:
            lines.append(f"| {name} | {find_study(name).claim} | not run yet | |")
            continue
        study, number = find_study(name), results[name].number
        said = with_interval(number)
        lines.append(f"| [{name}]({name}.md) | {study.claim} | {said} | {study.verdict(number)} |")
    return "\n".join(lines) + "\n"


def with_interval(score: Score) -> str:
    """With as many digits as the interval leaves a meaning: two of its half."""
    half = (score.high - score.low) / 2
    if not half:
        return f"{score.value:.6g}, the same for every seed"
    decimals = min(9, max(0, 1 - math.floor(math.log10(half))))
    return f"{score.value:.{decimals}f} ({score.low:.{decimals}f} to {score.high:.{decimals}f})"


def _read(path: Path) -> Result:
    try:
        return Result.from_json(json.loads(path.read_text()))
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: is no study's result: {error}") from None
