"""What the gateway costs, beside the engine called directly and beside other proxies, in one interleaved run.

    python -m loadtests.benchmarks.gateway [--quick] [--only gateway] [--out FILE.md]

The proxies run on one core, the stand-in engine and the load client on another (a third where there is one). Every
round measures every proxy and the direct path on every workload, in alternating order; a figure is the median over
the rounds, and what is added is the median of the differences within a round.
"""

from __future__ import annotations

import os
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import uvloop

from loadtests.tools.client import LoadClient, Measurement, chat_body
from loadtests.tools.open_streams import FEW, SOME, allow_files, most_streams, open_streams, wait_idle
from loadtests.tools.processes import REPOSITORY, Program, ProgramError, running
from loadtests.tools.report import OURS, WITHOUT_RECEIPTS, Report, write_report
from loadtests.tools.targets import TARGETS, Factory, Target, chosen, free_port
from training.studies.sections import machine

# No second token while open streams are counted.
_SILENCE_MS = 3_600_000.0
DEFAULT_OUT = Path("docs/benchmarks/gateway.md")
NUM_CHUNKS = 64
_CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Workload:
    """One kind of load. `seconds` bounds a closed loop; `waves` starts all connections at once, that many times."""

    name: str
    connections: int
    num_chunks: int | None = None
    step_ms: float = 0.0
    waves: int = 0


WORKLOADS = (
    Workload("plain-1", 1),
    Workload("plain-32", 32),
    Workload("plain-128", 128),
    Workload("burst-32", 32, NUM_CHUNKS),
    # 50 tokens per second and stream, a brisk engine; 6,400 chunks per second in all.
    Workload("paced-128", 128, NUM_CHUNKS, step_ms=20.0, waves=2),
)


@dataclass
class Runner:
    """A target that is up, and its figures: one dictionary per round, names as `WORKLOAD.FIGURE`."""

    name: str
    target: Target
    program: Program
    ready_s: float = 0.0
    rounds: list[dict[str, float]] = field(default_factory=list)


def cores() -> tuple[int, int, int]:
    """The cores of the proxies, of the stand-in and of the client."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise click.ClickException("The benchmark needs two cores: one for the gateway, one for the load.")
    return usable[0], usable[1], usable[min(2, len(usable) - 1)]


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """This process on one core, for a while."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def set_pace(engine_url: str, step_ms: float) -> None:
    request = urllib.request.Request(f"{engine_url}/standin/pace?step_ms={step_ms}", method="POST", data=b"")
    urllib.request.urlopen(request, timeout=5).close()


async def load(target: Target, workload: Workload, seconds: float) -> Measurement:
    """One measurement, after one unmeasured request on every connection."""
    bodies = [chat_body(workload.num_chunks)]
    async with LoadClient(target.url, workload.connections, target.headers) as client:
        await client.run(_CHAT, [chat_body(None)], total=workload.connections)
        if not workload.waves:
            return await client.run(_CHAT, bodies, seconds=seconds)
        seen = Measurement()
        for _ in range(workload.waves):
            seen.add(await client.run(_CHAT, bodies, total=workload.connections))
        return seen


def measure(runner: Runner, workload: Workload, seconds: float) -> dict[str, float]:
    """One workload on one target: latencies, rates, and CPU per request and per chunk."""
    # Connections and the unmeasured request are part of this CPU time: a hundredth of a run's requests.
    before = runner.program.cpu_s()
    seen = uvloop.run(load(runner.target, workload, seconds))
    cpu_s = runner.program.cpu_s() - before
    figures = seen.summary()
    if seen.num_completed:
        figures["cpu_ms_per_request"] = 1000 * cpu_s / seen.num_completed
    if workload.num_chunks and seen.num_completed:
        num_chunks = seen.num_completed * workload.num_chunks
        figures["chunks_per_s"] = num_chunks / seen.wall_s
        figures["cpu_us_per_chunk"] = 1e6 * cpu_s / num_chunks
    return {f"{workload.name}.{name}": value for name, value in figures.items()}


def run_rounds(runners: list[Runner], engine_url: str, num_rounds: int, seconds: float) -> None:
    """All rounds; every other round goes backwards, so that no target always follows the same neighbour."""
    planned = [(number, workload) for number in range(num_rounds) for workload in WORKLOADS]
    for runner in runners:
        runner.rounds = [{} for _ in range(num_rounds)]
    with click.progressbar(planned, label="Rounds", file=sys.stderr, item_show_func=_shown) as steps:
        for number, workload in steps:
            set_pace(engine_url, workload.step_ms)
            for runner in runners if number % 2 == 0 else reversed(runners):
                runner.rounds[number] |= measure(runner, workload, seconds)
    for runner in runners:
        runner.rounds[-1]["peak_rss_mib"] = runner.program.peak_rss_bytes() / 2**20


def measure_open_streams(runner: Runner, engine_url: str, num_rounds: int, seconds: float) -> None:
    """What a request costs, and what memory is taken, while few, some and many other streams are open."""
    set_pace(engine_url, _SILENCE_MS)
    sizes = (FEW, SOME, most_streams())
    planned = [(number, size) for number in range(num_rounds) for size in sizes]
    with click.progressbar(planned, label="Open streams", file=sys.stderr) as steps:
        for number, size in steps:
            figures = uvloop.run(_load_beside(runner, size, seconds))
            runner.rounds[number] |= {f"open-{sizes.index(size)}.{name}": value for name, value in figures.items()}
            wait_idle(runner.program)
    set_pace(engine_url, 0)


async def _load_beside(runner: Runner, num_streams: int, seconds: float) -> dict[str, float]:
    async with open_streams(runner.target, num_streams):
        rss = runner.program.rss_bytes()
        before = runner.program.cpu_s()
        seen = await load(runner.target, WORKLOADS[1], seconds)
        cpu_s = runner.program.cpu_s() - before
    return {
        "streams": num_streams,
        "rss_mib": rss / 2**20,
        "cpu_ms_per_request": 1000 * cpu_s / max(1, seen.num_completed),
        "errors": sum(seen.errors.values()),
    }


def _shown(step: tuple[int, Workload] | None) -> str | None:
    return f"round {step[0] + 1} {step[1].name}" if step else None


def start_targets(
    factories: Mapping[str, Factory], engine_url: str, folder: Path, core: int, stack: ExitStack
) -> Iterator[Runner | str]:
    """Start the targets; for one that cannot run, the reason instead."""
    for name, make in factories.items():
        try:
            target = make(engine_url, folder)
            program = stack.enter_context(running(name, target.command, folder, core, target.env))
            ready_s = program.wait_ready(target.url + target.ready_path, target.headers)
            yield Runner(target.name, target, program, ready_s)
        except ProgramError as error:
            yield f"{name}: {error}"


def run_bench(factories: Mapping[str, Factory], num_rounds: int, seconds: float, command: str) -> Report:
    """Start everything, measure, stop everything."""
    proxy_core, engine_core, client_core = cores()
    allow_files()
    # In the working tree, not in /tmp, which may be memory: the ledger's fsync has to reach a disk.
    scratch = REPOSITORY / ".signet"
    scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=scratch) as made, ExitStack() as stack:
        stack.enter_context(pinned(client_core))
        folder = Path(made)
        engine_url = f"http://127.0.0.1:{free_port()}"
        standin = [sys.executable, "-m", "loadtests.tools.standin", "--port", engine_url.rsplit(":", 1)[1], "--marks"]
        engine = stack.enter_context(running("standin", standin, folder, engine_core))
        engine.wait_ready(f"{engine_url}/health", {})
        direct = Runner("direct", Target("direct", standin, engine_url), engine)
        started = list(start_targets(factories, engine_url, folder, proxy_core, stack))
        runners = [target for target in started if isinstance(target, Runner)]
        if not runners:
            raise click.ClickException("Nothing to measure: " + "; ".join(map(str, started)))
        run_rounds([direct, *runners], engine_url, num_rounds, seconds)
        for runner in runners:
            if runner.name in (OURS, WITHOUT_RECEIPTS):
                measure_open_streams(runner, engine_url, num_rounds, seconds)
        return Report(
            command=command,
            machine=machine(),
            num_rounds=num_rounds,
            seconds=seconds,
            direct=direct.rounds,
            targets={runner.name: runner.rounds for runner in runners},
            ready_s={runner.name: runner.ready_s for runner in runners},
            missing=[target for target in started if isinstance(target, str)],
        )


@click.command()
@click.option("--quick", is_flag=True, help="Three short rounds; prints only, unless --out is given.")
@click.option("--only", multiple=True, type=click.Choice(list(TARGETS)), help="Measure only these (repeatable).")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where the table goes; JSON beside it.")
@click.option("--rounds", type=click.IntRange(1), help="Number of rounds (default 5, quick 3).")
def main(quick: bool, only: tuple[str, ...], out: Path | None, rounds: int | None) -> None:
    """Measure the gateway beside the engine called directly and beside other proxies."""
    num_rounds, seconds = (rounds or 3, 1.0) if quick else (rounds or 5, 2.0)
    command = "python -m loadtests.benchmarks.gateway " + " ".join(sys.argv[1:])
    report = run_bench(chosen(only), num_rounds, seconds, command.strip())
    if out is None and not quick and not only:
        out = DEFAULT_OUT
    click.echo(report.markdown())
    if out is not None:
        write_report(report, out)
        click.echo(f"written: {out}, {out.with_suffix('.json')}", err=True)


if __name__ == "__main__":
    main()
