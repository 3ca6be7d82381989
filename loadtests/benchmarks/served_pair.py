"""Tokens per second of two checkpoints, both served at once and asked in turn: what a smaller one gains.

    python -m loadtests.benchmarks.served_pair smollm2-135m-instruct smollm2-135m-instruct-w8a8

A round asks one engine and then the other, so that other work on the machine slows both alike; who goes first changes.
Processor time is less disturbed by such work than the clock.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import uvloop

from loadtests.benchmarks.real_engine import Side, bodies, wave
from loadtests.tools.figures import median_of, median_ratio, spread
from loadtests.tools.processes import Program, ProgramError, running
from loadtests.tools.targets import free_port
from serving.settings import load_settings
from training.studies.sections import machine

START_TIMEOUT_S = 1800.0
"""Busy machines need minutes to load an engine."""


@dataclass
class Served:
    """One checkpoint in its engine, and what its rounds measured."""

    side: Side
    program: Program
    tokens_per_s: list[float] = field(default_factory=list)
    tokens_per_cpu_s: list[float] = field(default_factory=list)
    """By the processor time of all of the engine's processes."""

    def ask(self, sent: list[dict[str, Any]], streams: int) -> None:
        """Measure one round."""
        before = self.program.cpu_s()
        seen = uvloop.run(wave(self.side, sent, streams))
        self.tokens_per_s.append(seen.num_tokens / seen.wall_s)
        self.tokens_per_cpu_s.append(seen.num_tokens / (self.program.cpu_s() - before))


@click.command()
@click.argument("first")
@click.argument("second")
@click.option("--rounds", default=5, show_default=True)
@click.option("--streams", default=16, show_default=True)
@click.option("--tokens", default=40, show_default=True, help="Of each answer.")
def main(first: str, second: str, rounds: int, streams: int, tokens: int) -> None:
    """Serve FIRST and SECOND and print tokens per second of both, and of SECOND relative to FIRST."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # One after the other: both loading at once would need the memory of loading twice.
        pair = [_serve(ref, folder, stack) for ref in (first, second)]
        for number in range(rounds + 1):
            for served in pair if number % 2 else reversed(pair):
                served.ask(bodies(served.side.name.partition("@")[0], tokens, 0.0), streams)
            click.echo(f"round {number}/{rounds}", err=True)
    click.echo(report(pair, streams, tokens))


def report(pair: Sequence[Served], streams: int, tokens: int) -> str:
    """A table of what was measured after the first round, which is a warm-up."""
    first, second = pair
    about = machine()
    lines = [
        f"{streams} streams of {tokens} tokens, {len(first.tokens_per_s) - 1} rounds, {about['date']}; "
        f"{about['cores']} cores ({about['cpu']}), load {about['load']}.",
        "",
        f"| | {first.side.name} | {second.side.name} | ratio | rounds |",
        "|---|---:|---:|---:|---|",
    ]
    for name, figures in (
        ("tokens/s", [served.tokens_per_s[1:] for served in pair]),
        ("tokens/s of processor time", [served.tokens_per_cpu_s[1:] for served in pair]),
    ):
        ratios = [gained / before for before, gained in zip(*figures, strict=True)]
        low, high = spread(ratios)
        lines.append(
            f"| {name} | {median_of(figures[0]):.1f} | {median_of(figures[1]):.1f} "
            f"| **{median_ratio(figures[1], figures[0]):.2f}** | {low:.2f}–{high:.2f} |"
        )
    return "\n".join(lines)


def _serve(ref: str, folder: Path, stack: ExitStack) -> Served:
    port = free_port()
    command = [sys.executable, "-m", "signet", "engine", "--model", ref, "--port", str(port)]
    home = {"SIGNET_HOME": str(load_settings().home.resolve())}
    program = stack.enter_context(running(f"engine of {ref}", command, folder, env=home))
    url = f"http://127.0.0.1:{port}"
    program.wait_ready(f"{url}/health", {}, START_TIMEOUT_S)
    return Served(Side(ref, url, {}), program)


if __name__ == "__main__":
    try:
        main()
    except ProgramError as error:
        sys.exit(f"Error: {error}")
