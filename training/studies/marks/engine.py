"""A running engine that marks, asked directly: what studies and benchmarks of marks ask it, and how."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import click
import httpx

from serving.provenance import MarkKey

CHAT = "/v1/chat/completions"
TENANT = "mark-power-study"
TOPICS = (
    "a lighthouse keeper", "the first railway", "growing tomatoes", "a stolen violin", "winter in the mountains",
    "how bread rises", "a town without clocks", "the moons of Jupiter", "an honest thief", "learning to swim",
    "a bridge over a river", "why leaves turn red", "a letter that came late", "the history of paper",
    "two rival bakers", "a walk after rain", "how glass is made", "the last wolf", "a small library",
    "fishing at night", "a broken promise", "the taste of salt", "an island school", "migrating birds",
    "a very old map",
)  # fmt: skip
FORMS = ("Write a story about {}.", "Explain {} to a child.", "Write an essay about {}.", "Tell me about {}.")
PROMPTS = [form.format(topic) for topic in TOPICS for form in FORMS]
# Kinds of text that leave a mark less room, for studies of what can be told beforehand.
TASKS = (
    "sorts a list of numbers", "counts the words of a file", "finds the largest prime below n", "reverses a string",
    "checks a password's length", "adds two matrices", "reads a CSV file", "computes a factorial", "merges two dicts",
    "removes duplicates from a list", "converts Celsius to Fahrenheit", "finds a substring", "prints a calendar",
    "parses a date", "searches a binary tree", "draws a triangle of stars", "sums the digits of a number",
    "tests whether a word is a palindrome", "splits a text into lines", "rounds to two decimals",
)  # fmt: skip
KINDS = {
    "prose": PROMPTS,
    "code": [f"Write a Python {what} that {task}." for task in TASKS for what in ("function", "program", "class")],
    "lists": [f"Write the {row} as a numbered list, nothing else." for row in (
        "numbers from one to fifty in words", "months of the year with their days", "letters with a word each",
        "planets with their moons", "days of the week in five languages", "primary colours and what they make",
        "multiplication table of seven", "countries of Europe with capitals", "first thirty square numbers",
        "chemical elements with symbols", "instruments of an orchestra", "states of the USA",
    ) for _ in range(5)],
}  # fmt: skip


def mark(scheme: str | None, key: MarkKey) -> dict[str, Any]:
    """What asks an engine for a mark."""
    return {} if scheme is None else {"vllm_xargs": {"signet_mark": scheme, "signet_key": key.permit(scheme)}}


@dataclass(frozen=True)
class Engine:
    """The engine under study and the key it marks with."""

    url: str
    model: str
    key: MarkKey

    def body(self, prompt: str, marked: bool, **fields: Any) -> dict[str, Any]:
        asked = mark("gumbel" if marked else None, self.key)
        return {"model": self.model, "messages": [{"role": "user", "content": prompt}], **fields, **asked}

    def answers(self, bodies: Sequence[dict[str, Any]], label: str, streams: int = 32) -> list[dict[str, Any]]:
        """The choices of all answers, so many requests at a time."""

        def ask(body: dict[str, Any]) -> list[dict[str, Any]]:
            answer = client.post(f"{self.url}{CHAT}", json={**body, "return_token_ids": True})
            answer.raise_for_status()
            choices: list[dict[str, Any]] = answer.json()["choices"]
            return choices

        with (
            httpx.Client(timeout=600, limits=httpx.Limits(max_connections=streams)) as client,
            ThreadPoolExecutor(streams) as pool,
            click.progressbar(pool.map(ask, bodies), length=len(bodies), label=label, file=sys.stderr) as done,
        ):
            return [choice for choices in done for choice in choices]


def served_model(engine_url: str) -> str:
    try:
        return str(httpx.get(f"{engine_url}/v1/models").json()["data"][0]["id"])
    except (httpx.HTTPError, LookupError, ValueError) as error:
        raise click.ClickException(f"{engine_url}/v1/models does not answer: {error}") from None
