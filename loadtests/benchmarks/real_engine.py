"""Tokens per second of a real engine: through the gateway against direct, and marked against unmarked.

    python -m loadtests.benchmarks.real_engine --engine-url http://127.0.0.1:8001 \\
        --gateway-url http://127.0.0.1:8000 --key sk-…

Both sides of a ratio take turns in every round and change who goes first; the figure is the median of the rounds'
ratios. `signet serve` prints the gateway's address, its key and the engine's address.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import uvloop

from loadtests.tools.client import LoadClient, Measurement
from loadtests.tools.figures import median_ratio, spread
from loadtests.tools.prompts import MEDIUM, SHORT
from training.studies.sections import machine

_CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Side:
    """One side of a ratio: where the streams go, and with which headers."""

    name: str
    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Comparison:
    """Tokens per second of two sides, round by round."""

    name: str
    streams: int
    sides: tuple[str, str]
    tokens_per_s: tuple[list[float], list[float]]
    ttft_p50_ms: tuple[list[float], list[float]]

    @property
    def ratio(self) -> float:
        return median_ratio(*self.tokens_per_s)

    def line(self) -> str:
        rounds = [top / bottom for top, bottom in zip(*self.tokens_per_s, strict=True)]
        low, high = spread(rounds)
        middle = [sorted(side)[len(side) // 2] for side in self.tokens_per_s]
        return (
            f"| {self.name} | {self.streams} | {middle[0]:.0f} | {middle[1]:.0f} "
            f"| **{self.ratio:.3f}** | {low:.3f}–{high:.3f} |"
        )


def bodies(model: str, num_tokens: int, temperature: float) -> list[dict[str, Any]]:
    """Streams of exactly `num_tokens` tokens (`ignore_eos`, vLLM's own field), so that both sides do equal work."""
    return [
        {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": num_tokens,
            "ignore_eos": True,
            "temperature": temperature,
        }
        for prompt in (*SHORT, *MEDIUM)
    ]


async def wave(side: Side, sent: list[dict[str, Any]], streams: int) -> Measurement:
    """`streams` streams at once, each once."""
    async with LoadClient(side.url, streams, side.headers) as client:
        seen = await client.run(_CHAT, sent, total=streams, timeout_s=300)
    if seen.errors:
        raise click.ClickException(f"{side.name} ({side.url}) failed: {dict(seen.errors)}. Are --key and URLs right?")
    return seen


def compare(
    name: str, first: Side, second: Side, sent: list[dict[str, Any]], streams: int, num_rounds: int
) -> Comparison:
    """first ÷ second, after one unmeasured round of each."""
    speeds: dict[str, list[float]] = {first.name: [], second.name: []}
    ttfts: dict[str, list[float]] = {first.name: [], second.name: []}
    for number in range(num_rounds + 1):
        for side in (first, second) if number % 2 else (second, first):
            figures = uvloop.run(wave(side, sent, streams)).summary()
            if number > 0:
                speeds[side.name].append(figures["tokens_per_s"])
                ttfts[side.name].append(figures["ttft_p50_ms"])
        click.echo(f"{name}: round {number}/{num_rounds}", err=True)
    pair = (first.name, second.name)
    return Comparison(name, streams, pair, (speeds[pair[0]], speeds[pair[1]]), (ttfts[pair[0]], ttfts[pair[1]]))


def check_marks(sides: Mapping[str, Side], sent: Mapping[str, Any]) -> None:
    """Refuse to compare answers that are not what their side says: a tenant may not be allowed to choose."""
    for expected, side in sides.items():
        short = {**sent, "max_tokens": 1, "stream": False, "stream_options": None}
        headers = {**side.headers, "content-type": "application/json"}
        asked = urllib.request.Request(side.url + _CHAT, json.dumps(short).encode(), headers)
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                mark = answer.headers.get("x-signet-mark", "off")
        except (urllib.error.URLError, OSError) as error:
            raise click.ClickException(f"{side.name} ({side.url}) failed: {error}") from error
        if (mark.partition(";")[0] == "off") != (expected == "off"):
            raise click.ClickException(f"The {side.name} answers say X-Signet-Mark: {mark}. Nothing to compare.")


def first_model(gateway_url: str, key: str) -> str:
    asked = urllib.request.Request(f"{gateway_url}/v1/models", headers={"authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return str(json.load(answer)["data"][0]["id"])
    except (urllib.error.URLError, OSError, LookupError) as error:
        raise click.ClickException(f"{gateway_url}/v1/models does not answer: {error}") from error


def markdown(comparisons: list[Comparison], command: str) -> str:
    about = machine()
    return "\n".join(
        [
            "# What the gateway and the marks cost a real engine",
            "",
            f"`{command}`, {about['date']}; {about['cores']} cores ({about['cpu']}), Python {about['python']}.",
            "",
            "| tokens per second | streams | first | second | ratio, median of rounds | range |",
            "|---|---|---|---|---|---|",
            *(comparison.line() for comparison in comparisons),
            "",
        ]
    )


@click.command()
@click.option("--engine-url", required=True, help="The engine itself.")
@click.option("--gateway-url", required=True, help="The gateway in front of it.")
@click.option("--key", required=True, help="An API key of a tenant that may choose its mark.")
@click.option("--model", help="The served model (default: the first).")
@click.option("--tokens", default=64, show_default=True, help="Tokens per answer.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--streams", default=32, show_default=True, help="For gateway ÷ direct.")
@click.option("--mark-streams", default=16, show_default=True, help="For marked ÷ unmarked; 0 leaves it out.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the table here; JSON beside it.")
def main(
    engine_url: str,
    gateway_url: str,
    key: str,
    model: str | None,
    tokens: int,
    rounds: int,
    streams: int,
    mark_streams: int,
    out: Path | None,
) -> None:
    """Measure a running `signet serve`: the gateway's and the mark's share of the engine's throughput."""
    engine_url, gateway_url = engine_url.rstrip("/"), gateway_url.rstrip("/")
    model = model or first_model(gateway_url, key)
    authorization = {"authorization": f"Bearer {key}"}
    unmarked = Side("unmarked", gateway_url, {**authorization, "x-signet-mark": "off"})
    marked = Side("marked", gateway_url, {**authorization, "x-signet-mark": "on"})
    gateway = Side("gateway", gateway_url, unmarked.headers)
    sent = bodies(model, tokens, 1.0)
    done = [compare("gateway ÷ direct", gateway, Side("direct", engine_url, {}), sent, streams, rounds)]
    if mark_streams:
        check_marks({"on": marked, "off": unmarked}, sent[0])
        done.append(compare("marked ÷ unmarked", marked, unmarked, sent, mark_streams, rounds))
    # The key does not go into what is written down.
    text = markdown(
        done, f"python -m loadtests.benchmarks.real_engine --tokens {tokens} --rounds {rounds} (model {model})"
    )
    click.echo(text)
    if out is not None:
        out.write_text(text)
        rows = [
            {"name": comparison.name, "ratio": comparison.ratio, "tokens_per_s": comparison.tokens_per_s}
            for comparison in done
        ]
        out.with_suffix(".json").write_text(json.dumps({"machine": machine(), "comparisons": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
