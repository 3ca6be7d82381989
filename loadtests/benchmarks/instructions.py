"""What an answer costs the gateway in instructions: `python -m loadtests.benchmarks.instructions [--before FOLDER]`.

Counted by Valgrind's callgrind (https://valgrind.org/docs/manual/cl-manual.html, Debian's package `valgrind`), one
request after another against a stand-in engine: unlike CPU time, the same number beside other work and at any clock.
`--before` is another checkout of Signet, counted too, with this environment's packages.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from loadtests.tools.client import LoadClient, chat_body
from loadtests.tools.processes import REPOSITORY, Program, ProgramError, running
from loadtests.tools.targets import free_port, signet_gateway

WARM_UP = 40
NUM_TOKENS = 64
BODIES: dict[str, Mapping[str, Any]] = {
    "not streamed": chat_body(None) | {"max_tokens": NUM_TOKENS},
    "streamed, 64 tokens": chat_body(NUM_TOKENS),
}
# Under Valgrind Python starts some fifty times slower.
START_TIMEOUT_S = 180.0
_TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)


def instructions(checkout: Path, num_requests: int) -> dict[str, float]:
    """Instructions of the gateway's process per answer, for each of `BODIES`; starts and stops all it needs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine_url = f"http://127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "loadtests.tools.standin", "--port", engine_url.rsplit(":", 1)[1], "--marks"]
        engine = stack.enter_context(running("stand-in", command, folder))
        engine.wait_ready(f"{engine_url}/health", {})
        target = signet_gateway(engine_url, folder, checkout)
        counts = folder / "counts"
        valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={counts}"]
        environment = {**target.env, "PYTHONHASHSEED": "0"}
        gateway = stack.enter_context(running("gateway", [*valgrind, *target.command], folder, env=environment))
        gateway.wait_ready(f"{target.url}{target.ready_path}", target.headers, START_TIMEOUT_S)
        measured = {}
        for number, (name, body) in enumerate(BODIES.items(), start=1):
            ask(target.url, target.headers, body, WARM_UP)
            control(gateway, "--instr=on")
            ask(target.url, target.headers, body, num_requests)
            control(gateway, "--instr=off")
            control(gateway, "--dump=answers")
            measured[name] = total(Path(f"{counts}.{number}")) / num_requests
        return measured


def ask(url: str, headers: Mapping[str, str], body: Mapping[str, Any], num_requests: int) -> None:
    """So many questions on one connection. Raises ProgramError where one is not answered."""

    async def run() -> None:
        async with LoadClient(url, 1, headers) as client:
            seen = await client.run("/v1/chat/completions", [body], total=num_requests, timeout_s=START_TIMEOUT_S)
        if seen.errors:
            raise ProgramError(f"{sum(seen.errors.values())} of {num_requests} requests failed: {dict(seen.errors)}")

    asyncio.run(run())


def control(gateway: Program, action: str) -> None:
    subprocess.run(["callgrind_control", action, str(gateway.process.pid)], stdout=subprocess.DEVNULL, check=True)


def total(dump: Path) -> int:
    """The instructions in a dump of callgrind's."""
    counted = _TOTALS.search(dump.read_text())
    if counted is None:
        raise ProgramError(f"{dump.name} holds no total: was callgrind switched on?")
    return int(counted[1])


def table(after: Mapping[str, float], before: Mapping[str, float] | None) -> str:
    """In Markdown, in thousands."""
    if before is None:
        rows = [f"| {name} | {count / 1e3:,.0f} |" for name, count in after.items()]
        return "\n".join(["| | thousand instructions an answer |", "|---|---:|", *rows])
    rows = [
        f"| {name} | {before[name] / 1e3:,.0f} | {count / 1e3:,.0f} | {count / before[name]:.3f} |"
        for name, count in after.items()
    ]
    return "\n".join(["| thousand instructions an answer | before | after | ratio |", "|---|---:|---:|---:|", *rows])


@click.command()
@click.option("--before", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Another checkout.")
@click.option("--requests", "num_requests", default=100, show_default=True)
def main(before: Path | None, num_requests: int) -> None:
    """Count, and print the table."""
    if shutil.which("valgrind") is None:
        raise click.ClickException("valgrind is not installed: apt-get install valgrind")
    try:
        earlier = instructions(before.resolve(), num_requests) if before else None
        click.echo(table(instructions(REPOSITORY, num_requests), earlier))
    except ProgramError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
