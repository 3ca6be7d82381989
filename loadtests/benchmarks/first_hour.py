"""The README's first requests, again and again: is the answer right and quick, is the story's mark found?

    python -m loadtests.tools.with_stack python -m loadtests.benchmarks.first_hour --url {gateway} --key {key} \\
        --out docs/benchmarks/first_hour.md

The request is what `signet serve` prints, the story what the README shows in Python; neither says more than they do.
Each time asks as a tenant of its own: what a key does to a text is the same as often as one asks.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import click
import httpx

from serving import DEFAULT_MODEL
from serving.engine.first_answer import FIRST_REQUEST
from training.studies.sections import machine

# What a newcomer types instead of pasting.
BARE: dict[str, Any] = FIRST_REQUEST | {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
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
STORIES_AT_ONCE = 10
# Words of the French into which the model slips, and which no English sentence about France has.
FRENCH = frozenset({"la", "le", "les", "l", "de", "des", "du", "d", "est", "et", "une", "un", "au", "aux"})
SHOWN_CHARS = 90


@dataclass(frozen=True)
class Asked:
    """One answer, as its client saw it."""

    text: str
    finish_reason: str
    tokens: int
    seconds: float

    @property
    def right(self) -> bool:
        """Whether it says Paris in its first sentence, speaks English throughout, and ends by itself."""
        first = re.split(r"(?<=[.!?])\s", self.text.strip(), maxsplit=1)[0]
        words = set(re.findall(r"[^\W\d_]+", self.text.lower()))
        return "Paris" in first and not words & FRENCH and self.finish_reason == "stop"


class Gateway:
    """One gateway, asked as its first users ask."""

    def __init__(self, url: str, admin_key: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=300)
        self.admin_key = admin_key

    def new_key(self, tenant: str) -> str:
        return str(self._post(self.admin_key, "/admin/keys", {"tenant": tenant})["key"])

    def ask(self, key: str, body: dict[str, Any]) -> Asked:
        start = time.monotonic()
        answer = self._post(key, "/v1/chat/completions", {"model": DEFAULT_MODEL, **body})
        seconds = time.monotonic() - start
        (choice,) = answer["choices"]
        tokens = answer["usage"]["completion_tokens"]
        return Asked(choice["message"]["content"], choice["finish_reason"], tokens, seconds)

    def p_value(self, text: str) -> float:
        return float(self._post(self.admin_key, "/v1/provenance/detect", {"text": text})["p_value"])

    def _post(self, key: str, path: str, body: dict[str, Any]) -> Any:
        headers = {"authorization": f"Bearer {key}"}
        return self._http.post(path, json=body, headers=headers).raise_for_status().json()


def measure(gateway: Gateway, times: int) -> tuple[list[str], bool]:
    """The report's lines, and whether the bars hold."""
    first = gateway.ask(gateway.admin_key, FIRST_REQUEST)  # by whoever pastes it, before anybody else asked anything
    keys = [gateway.new_key(f"first-hour-{number}") for number in range(times)]
    pasted, bare = ([gateway.ask(key, body) for key in keys] for body in (FIRST_REQUEST, BARE))
    with ThreadPoolExecutor(STORIES_AT_ONCE) as pool:  # nobody times them
        stories = list(pool.map(lambda key: gateway.ask(key, STORY), keys))
    p_values = sorted(gateway.p_value(asked.text) for asked in stories)
    marked = sum(p < MARKED_BELOW for p in p_values)
    tokens = sorted(asked.tokens for asked in stories)
    lines = [
        "| request | holds | figures |",
        "|---|---|---|",
        f"| pasted, the first of all | **{'yes' if first.right else 'no'}** | {first.seconds:.2f} s |",
        f"| pasted | **{_num_right(pasted)} of {times}** | {_seconds(pasted)} |",
        f"| the bare question | **{_num_right(bare)} of {times}** | {_seconds(bare)} |",
        f"| the story: marked at p < {MARKED_BELOW:g} | **{marked} of {times}** | p {p_values[0]:.0e} to "
        f"{p_values[-1]:.0e}, median {median(p_values):.0e}; {tokens[0]} to {tokens[-1]} tokens |",
        "",
        *_texts("pasted", [first, *pasted]),
        *_texts("the bare question", bare),
    ]
    slow = sum(asked.seconds > LONGEST_S for asked in [first, *pasted])
    holds = first.right and min(_num_right(pasted), _num_right(bare), marked, times - slow) >= LEAST * times
    return lines, holds


def _num_right(answers: list[Asked]) -> int:
    return sum(asked.right for asked in answers)


def _seconds(answers: list[Asked]) -> str:
    seconds = sorted(asked.seconds for asked in answers)
    return f"{seconds[0]:.2f} to {seconds[-1]:.2f} s, median {median(seconds):.2f} s"


def _texts(request: str, answers: list[Asked]) -> list[str]:
    """What was said, for readers who judge by themselves."""
    said = Counter((asked.right, " ".join(asked.text.split()).replace("|", "\\|")[:SHOWN_CHARS]) for asked in answers)
    rows = [f"| {number} | {'right' if right else 'wrong'} | {text} |" for (right, text), number in said.most_common()]
    return [f"Answers to {request}:", "", "| times | | text |", "|---|---|---|", *rows, ""]


@click.command()
@click.option("--url", required=True, help="The gateway, just started.")
@click.option("--key", required=True, help="An administrator's API key.")
@click.option("--times", default=20, show_default=True, type=click.IntRange(1), help="Tenants, who ask each once.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the page there.")
def main(url: str, key: str, times: int, out: Path | None) -> None:
    """Ask the README's first question and its story, and judge both."""
    load_before = machine()["load"].split()[0]
    table, holds = measure(Gateway(url, key), times)
    about = machine()
    page = [
        "# The first hour",
        "",
        f"`python -m loadtests.benchmarks.first_hour --times {times}`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; "
        f"{about['cores']} cores ({about['cpu']}), Python {about['python']}, load {load_before} (1 minute, at the "
        f"start) and {about['load']}.",
        f"Right: Paris in the first sentence, English throughout, ended by itself. The bar is {LEAST:.0%}, for what is "
        f"pasted within {LONGEST_S:g} s.",
        "Each time is another tenant's, so another marking key's; the first of all is asked of a stack that has just "
        "said that it is ready.",
        "",
        *table,
    ]
    text = "\n".join(page).rstrip("\n") + "\n"
    if out is not None:
        out.write_text(text)
    click.echo(text)
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
