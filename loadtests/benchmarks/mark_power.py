"""How strong the mark is, how often it is seen where there is none, and what it costs: a study of a real engine.

    python -m loadtests.benchmarks.mark_power --engine-url http://127.0.0.1:8001 --keyring .signet/keyring.json \\
        --model-folder .signet/registry/smollm2-135m-instruct/1 --human-text wikitext2/test.txt

The engine is one that `signet serve` or `signet engine` started, with that keyring. The human text is any large
plain text; without it that part is left out. Exits with 1 when a bar is missed.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import uvloop
from scipy.stats import binomtest

from loadtests.tools.client import LoadClient
from loadtests.tools.figures import median_ratio, percentile, spread
from loadtests.tools.prompts import MEDIUM, SHORT
from serving.provenance import Detector, Keyring, MarkKey, detect
from training.studies.marks.engine import CHAT, PROMPTS, TENANT, Engine, served_model
from training.studies.marks.foreign import foreign_detector
from training.studies.sections import machine

ANSWER_TOKENS = 200
# Ordinary sampling settings; the bar is on the first.
SETTINGS: dict[str, dict[str, Any]] = {
    "temperature 1": {"temperature": 1.0},
    "temperature 1, top-p .9": {"temperature": 1.0, "top_p": 0.9},
    "temperature .7, top-k 50, top-p .95": {"temperature": 0.7, "top_k": 50, "top_p": 0.95},
}


@dataclass
class Study:
    """Lines of the report, and the bars that were missed."""

    lines: list[str]
    missed: list[str]

    def bar(self, held: bool, name: str) -> str:
        if not held:
            self.missed.append(name)
        return "held" if held else "MISSED"


def power(study: Study, engine: Engine, detector: Detector, wrong: MarkKey, num_answers: int) -> None:
    """Marked answers of 200 tokens: how many are found, from text by ours and from token ids by vLLM's detector."""
    foreign = foreign_detector("gumbel", engine.key)
    study.lines += [
        f"| {num_answers} marked answers of {ANSWER_TOKENS} tokens | p < 1e-3, from text | weakest p | median p "
        "| tokens until p < 1e-3: median, 95th | vLLM's detector, from tokens, p < 1e-3 | wrong key, p < 1e-2 |",
        "|---|---|---|---|---|---|---|",
    ]
    length = {"min_tokens": ANSWER_TOKENS, "max_tokens": ANSWER_TOKENS}
    for name, sampling in SETTINGS.items():
        bodies = [engine.body(prompt, True, **length, **sampling) for prompt in PROMPTS[:num_answers]]
        choices = engine.answers(bodies, name)
        found = sorted(detector.detect_text(choice["message"]["content"], [engine.key]).p_value for choice in choices)
        strays = sum(detect(choice["token_ids"], [wrong]).p_value < 1e-2 for choice in choices)
        theirs = sum(foreign(choice["token_ids"]) for choice in choices)
        hits = sum(p < 1e-3 for p in found)
        needed = [tokens_needed(choice["token_ids"], engine.key) for choice in choices]
        verdict = f"; bar 95%: {study.bar(hits >= 0.95 * num_answers, 'power')}" if name == "temperature 1" else ""
        study.lines.append(
            f"| {name} | **{hits}**{verdict} | {found[-1]:.1e} | {found[len(found) // 2]:.1e} "
            f"| {percentile(needed, 50):.0f}, {percentile(needed, 95):.0f} | {theirs} | {strays} |"
        )
    study.lines.append("")


def tokens_needed(token_ids: list[int], key: MarkKey) -> float:
    """Length of the shortest beginning, in steps of five, from which the mark is found; infinite where it is not."""
    lengths = range(5, len(token_ids) + 1, 5)
    return next((length for length in lengths if detect(token_ids[:length], [key]).marked), math.inf)


def diversity(study: Study, engine: Engine) -> None:
    """Several answers to one question must not be one answer several times."""
    counts = {}
    for marked in (False, True):
        bodies = [engine.body(prompt, marked, n=8, max_tokens=60, temperature=1.0) for prompt in PROMPTS[::10]]
        choices = engine.answers(bodies, f"n=8, {'marked' if marked else 'unmarked'}")
        counts[marked] = len({(i // 8, each["message"]["content"]) for i, each in enumerate(choices)})
    total = 8 * len(PROMPTS[::10])
    study.lines += [
        f"`n=8`, {len(PROMPTS[::10])} questions, 60 tokens: {counts[True]} of {total} marked answers differ from the "
        f"others to their question; unmarked {counts[False]} of {total}.",
        "",
    ]


def error_rate(study: Study, detector: Detector, keys: Sequence[MarkKey], text: str) -> None:
    """Windows of human text: p < 1e-2 must come as often as chance says."""
    ids = detector.token_ids(text)
    windows = [ids[first : first + ANSWER_TOKENS] for first in range(0, len(ids) - ANSWER_TOKENS + 1, ANSWER_TOKENS)]
    per_key = [0] * len(keys)
    with click.progressbar(windows, label="human text", file=sys.stderr) as bar:
        for window in bar:
            for index, score in enumerate(detect(window, keys).per_key):
                per_key[index] += score.p_value < 1e-2
    trials, hits = len(windows) * len(keys), sum(per_key)
    low, high = binomtest(hits, trials).proportion_ci(0.99)
    held = study.bar(low <= 0.01, "error rate")
    study.lines += [
        f"Unmarked human text, {len(windows)} windows of {ANSWER_TOKENS} tokens x {len(keys)} keys: p < 1e-2 in "
        f"{hits} of {trials} = **{hits / trials:.2%}** (99% interval {low:.2%}–{high:.2%}; by key "
        f"{min(per_key) / len(windows):.2%}–{max(per_key) / len(windows):.2%}); bar 1% within the interval: {held}.",
        "",
    ]


def cost(study: Study, engine: Engine, num_rounds: int, num_tokens: int) -> None:
    """Tokens per second with and without the mark, in turns within one run."""
    study.lines += [
        "| tokens per second | streams | marked | unmarked | marked ÷ unmarked, median of rounds | range |",
        "|---|---|---|---|---|---|",
    ]
    for name, sampling in ({"temperature 1": SETTINGS["temperature 1"]} | dict(list(SETTINGS.items())[1:2])).items():
        for streams in (16, 32):
            speeds: dict[bool, list[float]] = {True: [], False: []}
            for number in range(num_rounds + 1):  # the first is not counted
                for marked in (True, False) if number % 2 else (False, True):
                    speed = uvloop.run(_wave(engine, marked, streams, num_tokens, sampling))
                    if number:
                        speeds[marked].append(speed)
                click.echo(f"{name}, {streams} streams: round {number}/{num_rounds}", err=True)
            ratio = median_ratio(speeds[True], speeds[False])
            low, high = spread([top / bottom for top, bottom in zip(speeds[True], speeds[False], strict=True)])
            barred = streams == 16 and name == "temperature 1"
            verdict = f"; bar .90: {study.bar(ratio >= 0.9, 'cost')}" if barred else ""
            middle = [sorted(speeds[marked])[num_rounds // 2] for marked in (True, False)]
            study.lines.append(
                f"| {name} | {streams} | {middle[0]:.0f} | {middle[1]:.0f} | **{ratio:.3f}**{verdict} "
                f"| {low:.3f}–{high:.3f} |"
            )
    study.lines.append("")


async def _wave(engine: Engine, marked: bool, streams: int, num_tokens: int, sampling: dict[str, Any]) -> float:
    fields = {"stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True, "max_tokens": num_tokens}
    bodies = [engine.body(prompt, marked, **fields, **sampling) for prompt in (*SHORT, *MEDIUM)]
    async with LoadClient(engine.url, streams, {}) as client:
        seen = await client.run(CHAT, bodies, total=streams, timeout_s=600)
    if seen.errors:
        raise click.ClickException(f"the engine at {engine.url} failed: {dict(seen.errors)}")
    return seen.summary()["tokens_per_s"]


@click.command()
@click.option("--engine-url", required=True, help="A running engine with Signet's plugin.")
@click.option("--keyring", required=True, type=click.Path(path_type=Path, exists=True), help="The engine's keyring.")
@click.option("--model-folder", required=True, type=click.Path(path_type=Path, exists=True), help="For the tokenizer.")
@click.option("--human-text", type=click.Path(path_type=Path, exists=True), help="A large plain text nobody marked.")
@click.option("--answers", default=100, show_default=True, type=click.IntRange(1, len(PROMPTS)))
@click.option("--rounds", default=5, show_default=True, help="Of the speed comparison; 0 leaves it out.")
@click.option("--tokens", default=64, show_default=True, help="Tokens per answer in the speed comparison.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here.")
def main(
    engine_url: str,
    keyring: Path,
    model_folder: Path,
    human_text: Path | None,
    answers: int,
    rounds: int,
    tokens: int,
    out: Path | None,
) -> None:
    """Study the mark on a real engine."""
    ring, detector = Keyring.open(keyring), Detector(model_folder)
    engine = Engine(engine_url.rstrip("/"), served_model(engine_url.rstrip("/")), ring.mark_key(TENANT))
    others = [ring.mark_key(f"{TENANT}-{number}") for number in range(10)]
    command = f"python -m loadtests.benchmarks.mark_power --answers {answers} --rounds {rounds} --tokens {tokens}"
    study = Study([], [])
    power(study, engine, detector, others[0], answers)
    diversity(study, engine)
    if human_text is not None:
        error_rate(study, detector, others, human_text.read_text())
    if rounds:
        cost(study, engine, rounds, tokens)
    about = machine()
    head = (
        f"`{command}`, {about['date']}; model {engine.model}; {about['cores']} cores ({about['cpu']}), "
        f"load {about['load']}."
    )
    report = "\n".join([head, "", *study.lines])
    click.echo(report)
    if out is not None:
        out.write_text(report)
    if study.missed:
        raise click.ClickException(f"bars missed: {json.dumps(study.missed)}")


if __name__ == "__main__":
    main()
