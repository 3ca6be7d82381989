"""`signet study`: run claims again."""

from __future__ import annotations

import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from training.command import one_line_errors
from training.errors import TrainingError
from training.studies import STUDIES

if TYPE_CHECKING:
    from training.studies.study import Result


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--list", "is_list", is_flag=True, help="List the studies.")
@click.option("--all", "is_all", is_flag=True, help="Run all, one after another.")
@click.option("--seeds", type=click.IntRange(2, 100), help="Number of seeds.  [default: the study's own, 3 or 4]")
@click.option(
    "--text", type=click.Path(path_type=Path), help="Train on this text instead of the standard library's source."
)
@click.option("--smallest", is_flag=True, help="Only check that it runs, in seconds; the figures are meaningless.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write page, plot and figures to, such as `docs/studies`.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each result as a line of JSON.")
@one_line_errors
def study(
    names: tuple[str, ...],
    is_list: bool,
    is_all: bool,
    seeds: int | None,
    text: Path | None,
    smallest: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Run studies: claims about language models, each with a number, an interval over seeds, and a verdict.

    Example: signet study residuals
    """
    if is_list:
        click.echo("\n".join(f"{name:15} {subject}" for name, subject in STUDIES.items()))
        return
    chosen = tuple(STUDIES) if is_all else names
    if not chosen:
        raise TrainingError("name a study (signet study --list shows them), or say --all")
    if smallest and out is not None:
        raise TrainingError("--smallest cannot be combined with --out: its figures are meaningless")
    from training.studies.study import find_study

    for name in chosen:
        find_study(name)  # before the first is run
    for name in chosen:
        result = run_study(name, seeds, text, smallest)
        if out is not None:
            from training.studies.page import write_pages

            write_pages(result, out)
        _print(result, as_json)


def run_study(name: str, seeds: int | None, text: Path | None, is_smallest: bool) -> Result:
    """Run a study's seeds, one after another."""
    import torch

    from training.progress import track
    from training.studies.study import Result, Trial, find_study

    study = find_study(name)
    count = seeds or study.seeds
    started, cpu_started = time.monotonic(), time.process_time()
    samples = []
    with track(f"Study {name}") as progress:
        for seed in range(count):
            samples.append(study.measure(Trial(seed, is_smallest, text)))
            progress(seed + 1, count, f"{samples[-1].number:.4g}")
    return Result(
        name=name,
        samples=samples,
        date=datetime.now(UTC).date().isoformat(),
        command=_command(name, seeds, text),
        seconds=time.monotonic() - started,
        cpu_seconds=time.process_time() - cpu_started,
        machine=_machine(torch.get_num_threads()),
        versions={"Python": platform.python_version(), "torch": torch.__version__},
    )


def _machine(threads: int) -> str:
    used = "one thread" if threads == 1 else f"{threads} threads"
    return f"{used} of a machine with {os.cpu_count()} cores ({platform.machine()})"


def _command(name: str, seeds: int | None, text: Path | None) -> str:
    words = ["signet study", name]
    words += [f"--seeds {seeds}"] if seeds is not None else []
    words += [f"--text {text.name}"] if text is not None else []
    return " ".join(words)


def _print(result: Result, as_json: bool) -> None:
    from training.studies.page import with_interval
    from training.studies.study import find_study

    study, number = find_study(result.name), result.number
    if as_json:
        figures = {name: [score.value, score.low, score.high] for name, score in result.table().items()}
        said = {
            "study": result.name,
            "claim": study.claim,
            **number.figures("number"),
            "holds": study.holds,
            "bar": study.bar,
            "verdict": study.verdict(number),
            "seeds": len(result.samples),
            "seconds": result.seconds,
            "cpu_seconds": result.cpu_seconds,
            "table": figures,
        }
        click.echo(json.dumps(said))
        return
    click.echo(f"{result.name}: {study.claim}")
    click.echo(f"  {study.number}: {with_interval(number)}; holds {study.holds} {study.bar:g}: {study.verdict(number)}")
    for name, score in result.table().items():
        click.echo(f"  {name}: {with_interval(score)}")
