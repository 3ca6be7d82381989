"""What `signet plan` says of this machine's processor against what the engine does: memory, and tokens per second.

    python -m loadtests.tools.with_stack python -m loadtests.benchmarks.planner --engine-url {engine} \\
        --model {model_folder} --out docs/benchmarks/planner.md

The processor is measured while the engine is idle. Streams are started together and are equally long. The least time of
the rounds counts, as it does in the probe: other work only ever takes time away. Bars: memory within 10%, tokens per
second within 25%.
"""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.request
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import uvloop

from loadtests.benchmarks.real_engine import Side, first_model, wave
from loadtests.tools.processes import resident_bytes
from monitoring.plan.accelerators import GIB, Accelerator
from monitoring.plan.memory import Memory, memory_of
from monitoring.plan.probe import Measured, here, here_dtype
from monitoring.plan.roofline import Roofline
from monitoring.plan.shape import read_shape
from monitoring.plan.weights import Weights, weights_of
from serving.gateway.engines.load import parse_load
from training.studies.sections import machine, table_head, write_section

TITLE = "Here"
_MEMORY, _SPEED = 0.10, 0.25
_QUESTION = "Tell me at length how a river reaches the sea, and what lives along it."


@dataclass(frozen=True)
class Row:
    """A figure of the plan beside the engine's."""

    name: str
    planned: float
    measured: float
    unit: str
    bar: float

    @property
    def ratio(self) -> float:
        return self.planned / self.measured if self.measured else math.nan

    @property
    def is_held(self) -> bool:
        return abs(self.ratio - 1) <= self.bar

    def line(self) -> str:
        held = "held" if self.is_held else "**not held**"
        return (
            f"| {self.name} | {_number(self.planned)} {self.unit} | {_number(self.measured)} {self.unit} "
            f"| {self.ratio:.3f} | within {self.bar:.0%}: {held} |"
        )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def wave_s(engine: Roofline, streams: int, prompt_tokens: int, answer_tokens: int) -> float:
    """Seconds that so many equal streams take together when they start at once."""
    reading = engine.prompt_s(prompt_tokens, streams)
    context = prompt_tokens + answer_tokens / 2
    return reading + (answer_tokens - 1) * engine.step_s(streams, context)


def memory_rows(
    weights: Weights, memory: Memory, cache_tokens: int | None, resident: int | None, files: int
) -> list[Row]:
    """The plan's memory beside what the engine reports, what the kernel counts, and what lies on the disk."""
    stored = weights_of({}, weights.shape, "auto").total_bytes if not weights.formats else weights.total_bytes
    rows = []
    if files:
        rows.append(Row("weights, as stored", stored / GIB, files / GIB, "GiB", _MEMORY))
    if cache_tokens is not None:
        rows.append(Row("cache, as the engine reports it", memory.cache_tokens, cache_tokens, "tokens", _MEMORY))
    if resident is not None:
        rows.append(Row("resident memory of the engine", memory.usable / GIB, resident / GIB, "GiB", _MEMORY))
    return rows


def measured_tokens_per_s(engine_url: str, model: str, streams: int, tokens: int, rounds: int) -> float:
    """The best of the rounds, after one that is not counted."""
    sent = [
        {
            "model": model,
            "messages": [{"role": "user", "content": f"{number}. {_QUESTION}"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": tokens,
            "ignore_eos": True,
            "temperature": 0,
        }
        for number in range(streams)
    ]
    side = Side("engine", engine_url, {})
    walls = [uvloop.run(wave(side, sent, streams)).wall_s for _ in range(rounds + 1)]
    return streams * tokens / min(walls[1:])


def prompt_tokens_of(engine_url: str, model: str) -> int:
    """Tokens of the question with its template."""
    body = {"model": model, "messages": [{"role": "user", "content": f"1. {_QUESTION}"}], "max_tokens": 1}
    asked = urllib.request.Request(
        f"{engine_url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(asked, timeout=120) as answer:
            return int(json.load(answer)["usage"]["prompt_tokens"])
    except (urllib.error.URLError, OSError, LookupError) as error:
        raise click.ClickException(f"{engine_url} does not answer: {error}") from error


def engine_process(engine_url: str, proc: Path = Path("/proc")) -> int | None:
    """The process that serves that port, by its command line; None where it cannot be seen."""
    port = str(urlsplit(engine_url).port)
    for folder in proc.glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "serving.engine.server" in arguments and ("--port", port) in pairwise(arguments):
            return int(folder.name)
    return None


def section(rows: list[Row], measured: Measured, command: str) -> str:
    """For the page of the planner."""
    about = machine()
    power = "" if measured.power_w is None else f", {measured.power_w:.0f} W while multiplying"
    return "\n".join(
        [
            f"`{command}`, {about['date']}; {about['cores']} cores ({about['cpu']}), load {about['load']}. Probe, "
            f"{measured.threads} threads: {measured.bandwidth / 1e9:.1f} GB/s, "
            f"{measured.operations / 1e9:.0f} GFLOP/s{power}.",
            "",
            *table_head("figure", "planned", "measured", "planned ÷ measured", "bar"),
            *(row.line() for row in rows),
        ]
    )


def speed_rows(
    engine: Roofline, engine_url: str, model: str, streams: list[int], tokens: int, rounds: int
) -> list[Row]:
    prompt = prompt_tokens_of(engine_url, model)
    rows = []
    for number in streams:
        planned = number * tokens / wave_s(engine, number, prompt, tokens)
        measured = measured_tokens_per_s(engine_url, model, number, tokens, rounds)
        rows.append(Row(f"{number} streams of {tokens} tokens", planned, measured, "tokens/s", _SPEED))
        click.echo(rows[-1].line(), err=True)
    return rows


def _read(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_bytes())
    assert isinstance(config, dict)
    return config


def planned(folder: Path, accelerator: Accelerator, kv_cache_gb: int) -> tuple[Weights, Memory, Roofline]:
    """As `signet plan` has it for a checkpoint here."""
    config = _read(folder)
    weights = weights_of(config, read_shape(config), "auto", here_dtype())
    memory = memory_of(weights, accelerator, cache_bytes=kv_cache_gb * GIB)
    return weights, memory, Roofline(weights, accelerator, 1, memory.kv_per_token)


@click.command()
@click.option("--engine-url", required=True, help="The engine itself, idle.")
@click.option("--model", "folder", type=click.Path(path_type=Path, exists=True), required=True, help="Its checkpoint.")
@click.option("--kv-cache-gb", default=2, show_default=True, help="As engine.kv_cache_gb of that engine.")
@click.option("--streams", "streams", multiple=True, type=int, default=(1, 4, 16, 32), show_default=True)
@click.option("--tokens", default=64, show_default=True, help="Tokens per answer.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Page whose section is replaced.")
def main(
    engine_url: str,
    folder: Path,
    kv_cache_gb: int,
    streams: tuple[int, ...],
    tokens: int,
    rounds: int,
    out: Path | None,
) -> None:
    """Compare the plan for this machine's processor with a running engine."""
    engine_url = engine_url.rstrip("/")
    model = first_model(engine_url, "")
    accelerator, measured = here()
    weights, memory, engine = planned(folder, accelerator, kv_cache_gb)
    with urllib.request.urlopen(f"{engine_url}/metrics", timeout=10) as answer:
        load = parse_load(answer.read())
    speeds = speed_rows(engine, engine_url, model, list(streams), tokens, rounds)
    # After the load: the cache's pages are there only once they were written.
    process = engine_process(engine_url)
    resident = None if process is None else resident_bytes(process)
    files = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    cache_tokens = None if load is None else load.cache_tokens
    rows = [*memory_rows(weights, memory, cache_tokens, resident, files), *speeds]
    command = f"python -m loadtests.benchmarks.planner --tokens {tokens} --rounds {rounds}"
    text = section(rows, measured, command)
    click.echo(text)
    if out is not None:
        write_section(out, TITLE, text)


if __name__ == "__main__":
    main()
