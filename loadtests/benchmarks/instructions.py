"""What an answer costs the gateway in instructions: `python -m loadtests.benchmarks.instructions [--before FOLDER]`.

Counted by Valgrind's callgrind (https://valgrind.org/docs/manual/cl-manual.html, Debian's package `valgrind`), one
request after another against a stand-in engine: unlike CPU time, nearly the same number beside other work and at any
clock. Every count holds what a gateway does by the second meanwhile: most where answers are paced, an event at a time
as from an engine's steps, or where the machine is overloaded.
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
from typing import Any, NamedTuple

import click

from loadtests.benchmarks.gateway import set_pace
from loadtests.tools.client import LoadClient, chat_body
from loadtests.tools.processes import REPOSITORY, Program, ProgramError, running
from loadtests.tools.targets import free_port, signet_gateway

WARM_UP = 40
NUM_TOKENS = 64
# Long enough for a gateway under Valgrind to read each event by itself.
STEP_MS = 15
# Each of their answers takes a second and more: one is asked for in so many.
PACED_SHARE = 5


class Workload(NamedTuple):
    """One kind of question, and how the engine answers it."""

    body: Mapping[str, Any]
    path: str = "/v1/chat/completions"
    is_paced: bool = False


_CHAT = chat_body(NUM_TOKENS)
_LOGPROBS = _CHAT | {"logprobs": True}
_TOP_LOGPROBS = _LOGPROBS | {"top_logprobs": 5}
_QUESTION = _CHAT["messages"][0]["content"]
WORKLOADS = {
    "not streamed": Workload(chat_body(None) | {"max_tokens": NUM_TOKENS}),
    "streamed, in one write": Workload(_CHAT),
    "streamed, one event at a time": Workload(_CHAT, is_paced=True),
    "`logprobs`, in one write": Workload(_LOGPROBS),
    "`top_logprobs: 5`, in one write": Workload(_TOP_LOGPROBS),
    "`top_logprobs: 5`, one event at a time": Workload(_TOP_LOGPROBS, is_paced=True),
    "`/v1/responses`, streamed": Workload(
        {"model": _CHAT["model"], "input": _QUESTION, "max_output_tokens": NUM_TOKENS, "stream": True}, "/v1/responses"
    ),
    "`/v1/messages`, streamed": Workload(
        {name: value for name, value in _CHAT.items() if name != "stream_options"}, "/v1/messages"
    ),
}
# Under Valgrind Python starts some fifty times slower.
START_TIMEOUT_S = 180.0
_TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)


def instructions(checkout: Path, num_requests: int) -> dict[str, float]:
    """Instructions of the gateway's process per answer, for each of `WORKLOADS`; starts and stops all it needs."""
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
        for number, (name, workload) in enumerate(WORKLOADS.items(), start=1):
            set_pace(engine_url, STEP_MS if workload.is_paced else 0)
            share = PACED_SHARE if workload.is_paced else 1
            counted = -(-num_requests // share)
            ask(target.url, target.headers, workload, WARM_UP // share)
            control(gateway, "--instr=on")
            ask(target.url, target.headers, workload, counted)
            control(gateway, "--instr=off")
            control(gateway, "--dump=answers")
            measured[name] = total(Path(f"{counts}.{number}")) / counted
        return measured


def ask(url: str, headers: Mapping[str, str], workload: Workload, num_requests: int) -> None:
    """So many questions on one connection. Raises ProgramError where one is not answered."""

    async def run() -> None:
        async with LoadClient(url, 1, headers) as client:
            seen = await client.run(workload.path, [workload.body], total=num_requests, timeout_s=START_TIMEOUT_S)
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
