"""Every fault campaign, one after the other, and one table at the end: what `make test-faults` runs.

    python -m loadtests.faults.campaigns [--only NAME …] [--quick] [--list]

Each campaign is a command of its own that exits non-zero when something was lost; what it prints goes to
`build/faults/NAME.log` as well. Results are written to docs/benchmarks/faults.md and soak.md, unless `--quick` asks for
short runs that only try the campaigns themselves. Exits 1 when one of them failed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

import click

from loadtests.tools.processes import REPOSITORY

PAGE = "docs/benchmarks/faults.md"
LOGS = REPOSITORY / "build" / "faults"


@dataclass(frozen=True)
class Campaign:
    """One command: `full` writes its result into a page, `quick` takes a few seconds and writes nothing."""

    name: str
    what: str
    full: tuple[str, ...]
    quick: tuple[str, ...]


CAMPAIGNS = (
    Campaign(
        "engines",
        "one of two engines killed 50 times under load",
        ("loadtests.faults.kill_engine", "--kills", "50", "--out", PAGE),
        ("loadtests.faults.kill_engine", "--kills", "3"),
    ),
    Campaign(
        "gateway-sqlite",
        "the gateway killed 50 times under load, SQLite",
        ("loadtests.faults.kill_gateway", "--database", "sqlite", "--kills", "50", "--out", PAGE),
        ("loadtests.faults.kill_gateway", "--database", "sqlite", "--kills", "3"),
    ),
    Campaign(
        "gateway-postgres",
        "the gateway killed 50 times under load, PostgreSQL",
        ("loadtests.faults.kill_gateway", "--database", "postgres", "--kills", "50", "--out", PAGE),
        ("loadtests.faults.kill_gateway", "--database", "postgres", "--kills", "3"),
    ),
    Campaign(
        "registry",
        "whoever writes to the model registry killed 200 times",
        ("loadtests.faults.kill_writer", "--kills", "200"),
        ("loadtests.faults.kill_writer", "--kills", "10"),
    ),
    Campaign(
        "tests",
        "engines, PostgreSQL and Redis broken again and again; the API fuzzed",
        ("pytest", "-m", "faults", "-q"),
        ("pytest", "-m", "faults", "-q", "--collect-only"),
    ),
    Campaign(
        "soak",
        "five minutes of mixed load: memory, files, nothing left open",
        ("loadtests.faults.soak", "--minutes", "5", "--out", "docs/benchmarks/soak.md"),
        # Too short to compare halves: whether everything is closed at the end is what this looks at.
        ("loadtests.faults.soak", "--minutes", "0.3", "--growth", "2"),
    ),
)


@dataclass(frozen=True)
class Outcome:
    """How a campaign ended."""

    campaign: Campaign
    code: int
    seconds: float


def run(campaign: Campaign, quick: bool) -> Outcome:
    """Run it to its end, showing what it prints."""
    LOGS.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    command = [sys.executable, "-u", "-m", *(campaign.quick if quick else campaign.full)]
    click.secho(f"\n── {campaign.name}: {campaign.what}", bold=True)
    with (
        (LOGS / f"{campaign.name}.log").open("w") as log,
        subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            click.echo(line, nl=False)
            log.write(line)
    return Outcome(campaign, process.returncode, time.monotonic() - started)


def summary(outcomes: Iterable[Outcome]) -> str:
    """One line a campaign."""
    lines = [f"{'campaign':<18} {'result':<8} {'time':>6}  what"]
    for outcome in outcomes:
        result = "ok" if outcome.code == 0 else "FAILED"
        lines.append(f"{outcome.campaign.name:<18} {result:<8} {outcome.seconds:>5.0f}s  {outcome.campaign.what}")
    return "\n".join(lines)


@click.command()
@click.option("--only", multiple=True, type=click.Choice([campaign.name for campaign in CAMPAIGNS]), help="Only these.")
@click.option("--quick", is_flag=True, help="A few seconds of each, to see that they work; writes no page.")
@click.option("--list", "lists", is_flag=True, help="Show the campaigns and their commands.")
def main(only: tuple[str, ...], quick: bool, lists: bool) -> None:
    """Run the fault campaigns and sum them up."""
    chosen = [campaign for campaign in CAMPAIGNS if not only or campaign.name in only]
    if lists:
        for campaign in chosen:
            click.echo(f"{campaign.name:<18} python -m {' '.join(campaign.full)}")
        return
    outcomes = [run(campaign, quick) for campaign in chosen]
    click.echo(f"\n{summary(outcomes)}\n")
    failed = [outcome.campaign.name for outcome in outcomes if outcome.code]
    if failed:
        click.echo(f"something was lost in {', '.join(failed)}: see {LOGS.relative_to(REPOSITORY)}/NAME.log", err=True)
        sys.exit(1)
    click.echo("nothing was lost")


if __name__ == "__main__":
    main()
