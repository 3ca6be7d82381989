"""The README's first two requests, again and again: is the answer right and quick, is the story's mark found?

    python -m loadtests.with_stack python -m loadtests.first_hour --url {gateway} --key {key} \\
        --out docs/benchmarks/first_hour.md

The question is what `signet serve` prints, the story what the README shows in Python; neither says more than they do.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click
import httpx

from loadtests.report import machine

MODEL = "smollm2-135m-instruct"
QUESTION: dict[str, Any] = {
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 64,
}
STORY: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "Tell a story about a lighthouse. Mail it to jane@example.org."},
    ],
    "temperature": 0.9,
    "max_tokens": 200,
}
MARKED_BELOW = 1e-6
LONGEST_S = 3.0
LEAST = 0.95


class Asked(NamedTuple):
    text: str
    tokens: int
    seconds: float


class Gateway:
    """One gateway, asked as its first user asks."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=300)

    def ask(self, body: dict[str, Any]) -> Asked:
        start = time.monotonic()
        answer = self._http.post("/v1/chat/completions", json={"model": MODEL, **body}).raise_for_status().json()
        seconds = time.monotonic() - start
        return Asked(answer["choices"][0]["message"]["content"], answer["usage"]["completion_tokens"], seconds)

    def p_value(self, text: str) -> float:
        found = self._http.post("/v1/provenance/detect", json={"text": text}).raise_for_status().json()
        return float(found["p_value"])


def measure(gateway: Gateway, times: int) -> tuple[list[str], bool]:
    """The report's lines, and whether the bars hold."""
    gateway.ask(QUESTION)  # an engine's first answer is slower than all later ones
    answers = [gateway.ask(QUESTION) for _ in range(times)]
    right = sum("Paris" in asked.text and asked.seconds <= LONGEST_S for asked in answers)
    seconds = sorted(asked.seconds for asked in answers)
    stories = [gateway.ask(STORY) for _ in range(times)]
    p_values = sorted(gateway.p_value(asked.text) for asked in stories)
    marked = sum(p < MARKED_BELOW for p in p_values)
    tokens = sorted(asked.tokens for asked in stories)
    lines = [
        "| request | holds | figures |",
        "|---|---|---|",
        f"| the capital of France: Paris within {LONGEST_S:g} s | **{right} of {times}** | "
        f"median {median(seconds):.2f} s, longest {seconds[-1]:.2f} s |",
        f"| the story: marked at p < {MARKED_BELOW:g} | **{marked} of {times}** | p {p_values[0]:.0e} to "
        f"{p_values[-1]:.0e}, median {median(p_values):.0e}; {tokens[0]} to {tokens[-1]} tokens |",
    ]
    return lines, min(right, marked) >= LEAST * times


@click.command()
@click.option("--url", required=True, help="The gateway.")
@click.option("--key", required=True, help="An API key.")
@click.option("--times", default=20, show_default=True, type=click.IntRange(1), help="How often each is asked.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the page there.")
def main(url: str, key: str, times: int, out: Path | None) -> None:
    """Ask the README's first question and its story, and judge both."""
    table, holds = measure(Gateway(url, key), times)
    about = machine()
    page = [
        "# The first hour",
        "",
        f"`python -m loadtests.first_hour --times {times}`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; "
        f"{about['cores']} cores ({about['cpu']}), Python {about['python']}, load {about['load']}.",
        "What `signet serve` prints and what the README shows, asked of the default model with nothing added.",
        "",
        *table,
    ]
    text = "\n".join(page) + "\n"
    if out is not None:
        out.write_text(text)
    click.echo(text)
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
