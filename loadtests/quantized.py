"""What each way of quantizing costs and brings: time, size, perplexity, and the real engine's tokens per second.

    python -m loadtests.quantized --model smollm2-135m-instruct --out docs/benchmarks/quantize.md

Quantizes a checkpoint of SIGNET_HOME's registry by every scheme (each run registers one more version), then starts
`signet engine` on each result in turn, and on the original.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import uvloop

from loadtests.processes import running
from loadtests.real_engine import Side, bodies, wave
from loadtests.report import machine

SCHEMES = ("w8a8", "gptq", "awq")


@dataclass(frozen=True)
class Served:
    """One checkpoint as the engine serves it."""

    ready_s: float
    tokens_per_s: list[float]
    """One figure a round."""


def signet(*arguments: str) -> dict[str, Any]:
    """A command's JSON; its progress goes to our standard error."""
    done = subprocess.run([sys.executable, "-m", "signet", *arguments, "--json"], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise click.ClickException(f"signet {' '.join(arguments)} failed")
    result: dict[str, Any] = json.loads(done.stdout)
    del result["path"]  # says nothing on another machine
    return result


def serve(ref: str, streams: int, num_tokens: int, num_rounds: int) -> Served:
    """Start the engine on a checkpoint; measure after one unmeasured round."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "signet", "engine", "--model", ref, "--port", str(port)]
    with tempfile.TemporaryDirectory() as logs, running(ref, command, Path(logs)) as program:
        ready_s = program.wait_ready(f"{url}/health", {}, timeout_s=600)
        sent = bodies(ref.partition("@")[0], num_tokens, 1.0)
        speeds = []
        for number in range(num_rounds + 1):
            seen = uvloop.run(wave(Side(ref, url, {}), sent, streams))
            speeds.append(seen.summary()["tokens_per_s"])
            click.echo(f"{ref}: round {number}/{num_rounds}, {speeds[-1]:.0f} tokens per second", err=True)
    return Served(ready_s, speeds[1:])


def row(name: str, seconds: str, num_bytes: int, perplexity: float, served: Served) -> str:
    low, high = min(served.tokens_per_s), max(served.tokens_per_s)
    speed = f"{statistics.median(served.tokens_per_s):.0f} ({low:.0f}–{high:.0f})"
    return f"| {name} | {seconds} | {num_bytes / 1e6:.0f} | {perplexity:.2f} | {speed} | {served.ready_s:.0f} |"


@click.command()
@click.option("--model", default="smollm2-135m-instruct@1", show_default=True, help="A checkpoint of the registry.")
@click.option("--streams", default=16, show_default=True)
@click.option("--tokens", default=64, show_default=True, help="Tokens per answer.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the table here; JSON beside it.")
def main(model: str, streams: int, tokens: int, rounds: int, out: Path | None) -> None:
    """Quantize by every scheme, serve every result, and write down the figures."""
    made = {scheme: signet("quantize", model, "--scheme", scheme) for scheme in SCHEMES}
    served = {ref: serve(ref, streams, tokens, rounds) for ref in (model, *(each["ref"] for each in made.values()))}
    first, about = made[SCHEMES[0]], machine()
    lines = [
        "# What quantization costs and brings",
        "",
        f"`python -m loadtests.quantized --model {model} --streams {streams} --tokens {tokens} --rounds {rounds}`, "
        f"{about['date']}; {about['cores']} cores ({about['cpu']}), Python {about['python']}.",
        "",
        f"Perplexity over {first['heldout_tokens']} assistant tokens of the built-in chats, none of which calibrated. "
        f"Tokens per second of the engine at {streams} streams: median (range) of {rounds} rounds. "
        "Seconds of the whole command, with the compressor's environment there.",
        "",
        "| | made in s | MB | perplexity | tokens/s | engine ready after s |",
        "|---|---|---|---|---|---|",
        row(model, "–", first["bytes_before"], first["perplexity_before"], served[model]),
    ]
    for scheme, each in made.items():
        seconds = f"{each['seconds']:.0f}"
        lines.append(row(scheme, seconds, each["bytes_after"], each["perplexity_after"], served[each["ref"]]))
    text = "\n".join([*lines, ""])
    click.echo(text)
    if out is not None:
        out.write_text(text)
        facts = {ref: {"ready_s": each.ready_s, "tokens_per_s": each.tokens_per_s} for ref, each in served.items()}
        out.with_suffix(".json").write_text(
            json.dumps({"machine": about, "made": made, "served": facts}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
