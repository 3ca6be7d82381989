"""The watermark schemes beside each other on a real engine: how strong, what they cost, and what they do to the text.

    python -m loadtests.benchmarks.mark_schemes power --engine-url http://127.0.0.1:8001 --keyring .signet/keyring.json
    python -m loadtests.benchmarks.mark_schemes cost  --engine-url http://127.0.0.1:8001 --keyring .signet/keyring.json
    python -m loadtests.benchmarks.mark_schemes simulate

The last needs no engine: the plugin's own choices on random distributions of known entropy. The engine is one that
`signet serve` or `signet engine` started, with that keyring. Exits with 1 when a bar is missed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import uvloop

from loadtests.tools.client import LoadClient
from loadtests.tools.figures import median_ratio, spread
from loadtests.tools.prompts import MEDIUM, SHORT
from serving.engine.plugin.draws import make_draw
from serving.engine.plugin.green_kernel import add_green
from serving.engine.plugin.words import context_words, key_words
from serving.provenance import Keyring, MarkKey
from serving.provenance.schemes import BEFORE_THE_ANSWER, SCHEMES, lefthash, synthid
from serving.provenance.schemes.kgw import CONTEXT_WIDTH, DEFAULT_DELTA
from training.studies.marks.detection_study import LEVEL, log_p
from training.studies.marks.engine import CHAT, KINDS, TENANT, Engine, mark, served_model
from training.studies.marks.foreign import foreign_detector
from training.studies.sections import machine

BAR_FOUND = 0.99
UNMARKED = "unmarked"
BAR_SPEED = 0.97
# Standard deviations of the logits; the entropies they come to are measured.
DEVIATIONS = (12.0, 6.0, 4.0, 3.0)
SIMULATED_VOCABULARY = 500


@dataclass(frozen=True)
class Answer:
    """Tokens, and the natural log of the probability that the model gave each."""

    token_ids: list[int]
    logprobs: list[float]


@dataclass(frozen=True)
class Bench:
    """The engine under study, and which key it marks with."""

    engine: Engine
    vocabulary: int

    def answers(self, scheme: str | None, num_tokens: int, prompts: Sequence[str], **sampling: Any) -> list[Answer]:
        fields = {"min_tokens": num_tokens, "max_tokens": num_tokens, "logprobs": True, **sampling}
        bodies = [self.engine.body(prompt, False, **fields, **mark(scheme, self.engine.key)) for prompt in prompts]
        choices = self.engine.answers(bodies, scheme or "unmarked")
        return [
            Answer(choice["token_ids"], [token["logprob"] for token in choice["logprobs"]["content"]])
            for choice in choices
        ]


def predicted_and_seen(scheme: str, key: MarkKey, answer: Answer) -> tuple[float, float]:
    """What the answer's probabilities say it would score beyond chance, and what it does."""
    reader = SCHEMES[scheme]
    pairs = reader.pairs(answer.token_ids)
    probabilities = np.exp(np.array(answer.logprobs))[pairs.positions]
    null = {"kgw": 0.25, "synthid": synthid.DEPTH * synthid.ONES}.get(scheme, 1.0)
    seen = reader.token_scores([key.seed_for(scheme)], pairs).sum() - null * len(pairs)
    return float(reader.marked_scores(np.minimum(probabilities, 1.0)).mean.sum()), float(seen)


def power_row(bench: Bench, scheme: str, kind: str, temperature: float, answers: Sequence[Answer]) -> str:
    """One line of the table."""
    key, num_answers = bench.engine.key, len(answers)
    label = f"{scheme}, {kind}, temperature {temperature:g}"
    theirs = "-"
    if scheme != "kgw":
        reads = foreign_detector(scheme, key, bench.vocabulary)
        theirs = f"{sum(reads(answer.token_ids) for answer in answers) / num_answers:.2f}"
    perplexity = f"{perplexity_of(answers):.2f}"
    if scheme not in SCHEMES:
        return f"| {label} | – | – | – | {theirs} | {perplexity} | – |"
    logs = sorted(log_p(scheme, key.seed_for(scheme), answer.token_ids) for answer in answers)
    found = sum(log < math.log(LEVEL) for log in logs) / num_answers
    both = [predicted_and_seen(scheme, key, answer) for answer in answers]
    ratio = sum(seen for _, seen in both) / sum(predicted for predicted, _ in both)
    median, weakest = (f"1e{log / math.log(10):.0f}" for log in (logs[len(logs) // 2], logs[-1]))
    return f"| {label} | **{found:.2f}** | {median} | {weakest} | {theirs} | {perplexity} | {ratio:.2f} |"


def perplexity_of(answers: Sequence[Answer]) -> float:
    """Of the answers under the model itself."""
    return math.exp(-np.mean([logprob for answer in answers for logprob in answer.logprobs]))


async def _wave(bench: Bench, scheme: str | None, streams: int, num_tokens: int, sampling: dict[str, Any]) -> float:
    fields = {"stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True, "max_tokens": num_tokens}
    more = mark(scheme, bench.engine.key)
    bodies = [bench.engine.body(prompt, False, **fields, **sampling, **more) for prompt in (*SHORT, *MEDIUM)]
    async with LoadClient(bench.engine.url, streams, {}) as client:
        seen = await client.run(CHAT, bodies, total=streams, timeout_s=600)
    if seen.errors:
        raise click.ClickException(f"the engine at {bench.engine.url} failed: {dict(seen.errors)}")
    return seen.summary()["tokens_per_s"]


@click.group()
@click.pass_context
def main(context: click.Context) -> None:
    """Study the schemes on a real engine."""


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--engine-url", required=True, help="A running engine with Signet's plugin."),
        click.option("--keyring", required=True, type=click.Path(path_type=Path, exists=True), help="The engine's."),
        click.option("--vocabulary", default=49_152, show_default=True, help="Tokens of the model's output layer."),
        click.option("--tokens", default=200, show_default=True, help="Tokens per answer."),
    ):
        command = option(command)
    return command


def _bench(engine_url: str, keyring: Path, vocabulary: int) -> Bench:
    url = engine_url.rstrip("/")
    about = machine()
    click.echo(f"{about['date']}; {about['cores']} cores ({about['cpu']}), load {about['load']}", err=True)
    return Bench(Engine(url, served_model(url), Keyring.open(keyring).mark_key(TENANT)), vocabulary)


def _save(path: Path, key: MarkKey, scheme: str | None, answers: Sequence[Answer]) -> None:
    """Tokens and log-probabilities, with the seed that marked them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = None if scheme is None else key.seed_for(scheme)
    told = {"scheme": scheme, "seed": seed, "answers": [asdict(answer) for answer in answers]}
    path.write_text(json.dumps(told))


@main.command()
@_common
@click.option("--scheme", "schemes", multiple=True, type=click.Choice([*SCHEMES, lefthash.NAME, UNMARKED]))
@click.option("--answers", default=100, show_default=True, type=click.IntRange(1, len(KINDS["prose"])))
@click.option("--kind", default="prose", show_default=True, type=click.Choice([*KINDS]), help="Of text asked for.")
@click.option("--save", type=click.Path(path_type=Path, file_okay=False), help="Folder to keep the answers' tokens in.")
@click.option("--temperature", default=1.0, show_default=True, help="0 is for green lists only.")
def power(
    engine_url: str,
    keyring: Path,
    vocabulary: int,
    schemes: Sequence[str],
    tokens: int,
    answers: int,
    kind: str,
    save: Path | None,
    temperature: float,
) -> None:
    """How many marked answers are found, by us and by others, and the perplexity of their text."""
    bench, missed = _bench(engine_url, keyring, vocabulary), False
    for name in schemes or (*SCHEMES, lefthash.NAME, UNMARKED):
        scheme = None if name == UNMARKED else name
        given = bench.answers(scheme, tokens, KINDS[kind][:answers], temperature=temperature)
        if save is not None:
            _save(save / f"{name}-{kind}-{temperature:g}.json", bench.engine.key, scheme, given)
        if scheme is None:
            click.echo(
                f"| {name}, {kind}, temperature {temperature:g} | – | – | – | – | {perplexity_of(given):.2f} | – |"
            )
            continue
        row = power_row(bench, scheme, kind, temperature, given)
        missed |= scheme == "gumbel" and kind == "prose" and temperature == 1 and float(row.split("**")[1]) < BAR_FOUND
        click.echo(row)
    if missed:
        raise click.ClickException(f"gumbel: fewer than {BAR_FOUND} found")


@main.command()
@_common
@click.option("--scheme", "schemes", multiple=True, type=click.Choice([*SCHEMES, lefthash.NAME]))
@click.option("--streams", default=32, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--temperature", default=1.0, show_default=True)
def cost(
    engine_url: str,
    keyring: Path,
    vocabulary: int,
    schemes: Sequence[str],
    tokens: int,
    streams: int,
    rounds: int,
    temperature: float,
) -> None:
    """Tokens per second with each scheme and without, in turns."""
    bench, sampling = _bench(engine_url, keyring, vocabulary), {"temperature": temperature}
    sides: list[str | None] = [None, *(schemes or (*SCHEMES, lefthash.NAME))]
    speeds: dict[str | None, list[float]] = {side: [] for side in sides}
    for number in range(rounds + 1):  # the first is not counted
        for side in sides if number % 2 else sides[::-1]:
            speed = uvloop.run(_wave(bench, side, streams, tokens, sampling))
            if number:
                speeds[side].append(speed)
        click.echo(f"round {number}/{rounds}", err=True)
    slow = []
    for side in sides[1:]:
        ratio = median_ratio(speeds[side], speeds[None])
        low, high = spread([top / bottom for top, bottom in zip(speeds[side], speeds[None], strict=True)])
        middle = [sorted(speeds[one])[rounds // 2] for one in (side, None)]
        click.echo(f"| {side} | {middle[0]:.0f} | {middle[1]:.0f} | **{ratio:.3f}** | {low:.3f}–{high:.3f} |")
        slow += [side] if ratio < BAR_SPEED else []
    if slow:
        raise click.ClickException(f"below {BAR_SPEED} of the unmarked speed: {', '.join(map(str, slow))}")


def simulated(scheme: str, deviation: float, num_tokens: int, run: int) -> tuple[float, float]:
    """log p of an answer from random distributions, and their mean entropy in nats."""
    rng, ids, entropy = np.random.default_rng(run), list[int](), 0.0
    seed = int(rng.integers(2**63))
    draw = None if scheme == "kgw" else make_draw(scheme, seed, run)
    for position in range(num_tokens):
        logits = (rng.normal(size=SIMULATED_VOCABULARY) * deviation).astype(np.float32)
        weights = np.exp(logits - logits.max())
        entropy += math.log(weights.sum()) - float((weights * (logits - logits.max())).sum() / weights.sum())
        context = context_words(([BEFORE_THE_ANSWER] * CONTEXT_WIDTH + ids)[-CONTEXT_WIDTH:])
        if draw is None:
            add_green(logits, key_words(seed), context, np.float32(DEFAULT_DELTA))
        token = -1 if draw is None else draw(logits, None, context, position)
        ids.append(token if token >= 0 else int((logits + rng.gumbel(size=logits.size)).argmax()))
    reader = SCHEMES[scheme]
    pairs = reader.pairs(ids)
    return reader.log_p_value(float(reader.token_scores([seed], pairs).sum()), len(pairs)), entropy / num_tokens


@main.command()
@click.option("--answers", default=100, show_default=True)
@click.option("--tokens", multiple=True, default=(50, 200), show_default=True, help="Tokens per answer. Repeatable.")
def simulate(answers: int, tokens: Sequence[int]) -> None:
    """How many marked answers are found, by the entropy of the distributions they were drawn from."""
    about = machine()
    click.echo(f"{about['date']}; {about['cores']} cores ({about['cpu']}), load {about['load']}", err=True)
    for deviation in DEVIATIONS:
        for num_tokens in tokens:
            cells, entropies = [], []
            for scheme in SCHEMES:
                runs = [simulated(scheme, deviation, num_tokens, run) for run in range(answers)]
                logs = sorted(each for each, _ in runs)
                entropies += [entropy for _, entropy in runs]
                found = sum(log < math.log(LEVEL) for log in logs) / answers
                cells.append(f"**{found:.2f}**, 1e{logs[answers // 2] / math.log(10):.0f}")
            click.echo(f"| {np.mean(entropies):.2f} | {num_tokens} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
