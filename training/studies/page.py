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
    texts: dict[str, str] = {}
    results = {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}
    for name, result in results.items():
        texts |= {f"{name}.md": page(result), f"{name}.svg": picture(result)}
    return {**texts, INDEX: index(results)}


def page(result: Result) -> str:
    study, number = find_study(result.name), result.number
    title, method = explanation(result.name)
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    lines = [
        f"# {title}",
        "",
        f"**Claim.** {study.claim}",
        "",
        f"**Number.** {_sentence(study.number)}: {with_interval(number)}; the claim holds {study.holds} {study.bar:g}.",
        "",
        f"**Verdict.** {verdict_sentence(study, number)}",
        "",
        f"![{title}]({result.name}.svg)",
        "",
        method,
        "",
        *figures(result.table()),
        "",
        "## Run it again",
        "",
        "```console",
        f"$ {result.command}",
        "```",
        "",
        f"Run on {result.date} with the seeds 0 to {len(result.samples) - 1}, {result.machine}:",
        f"{result.cpu_seconds:.0f} s of CPU time, {result.seconds:.0f} s of wall time; {versions}.",
        "Figures are means over the seeds with 95% intervals (Student's t).",
        f"The figures of each seed are in [{result.name}.json]({result.name}.json).",
    ]
    return "\n".join(lines) + "\n"


def verdict_sentence(study: Study, number: Score) -> str:
    """What the interval says of the claim, in words."""
    bar = f"{study.bar:g}"
    match study.verdict(number):
        case "held":
            return f"Held: the whole interval is {study.holds} {bar}."
        case "not held":
            other = "below" if study.holds == "above" else "above"
            return f"Not held: the whole interval is {other} {bar}, so these runs refute the claim at this size."
        case "undecided":
            return f"Undecided: the interval includes {bar}, so these runs neither confirm nor refute the claim."


def figures(table: Mapping[str, Score]) -> list[str]:
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
        "Claims that you can test again: `signet study NAME`, or all of them with `make studies`. Each has a number",
        "(the mean over seeds with its 95% interval) and a verdict: held or not held if the whole interval is on one",
        "side of the bar, otherwise undecided. The models fit a CPU; results may differ for large ones.",
        "",
        "| study | claim | number | holds | verdict | CPU time |",
        "|---|---|---|---|---|---|",
        *(_row(name, results.get(name)) for name in STUDIES),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, result: Result | None) -> str:
    study = find_study(name)
    if result is None:
        return f"| {name} | {study.claim} | not run yet | | | |"
    said = f"{study.number}: {with_interval(result.number)}"
    cells = [f"[{name}]({name}.md)", study.claim, said, f"{study.holds} {study.bar:g}"]
    cells += [study.verdict(result.number), f"{result.cpu_seconds:.0f} s"]
    return f"| {' | '.join(cells)} |"


def with_interval(score: Score) -> str:
    """With as many digits as the interval leaves a meaning: two of its half."""
    half = (score.high - score.low) / 2
    if not half:
        return f"{score.value:.6g}, the same for every seed"
    if max(abs(score.low), abs(score.high)) < 1e-3:
        return f"{score.value:.2g} ({score.low:.2g} to {score.high:.2g})"
    decimals = min(5, max(0, 1 - math.floor(math.log10(half))))
    return f"{score.value:.{decimals}f} ({score.low:.{decimals}f} to {score.high:.{decimals}f})"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _read(path: Path) -> Result:
    try:
        return Result.from_json(json.loads(path.read_text()))
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: is not a study's result: {error}") from None
