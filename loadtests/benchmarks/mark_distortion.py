"""Whether marked answers, each under a key of its own, can be told from unmarked ones: tests of two samples.

    python -m loadtests.benchmarks.mark_distortion --data FOLDER --model-folder .signet/registry/smollm2-135m-instruct/1

A small model of the words of FOLDER's `test.txt` goes on from one word, again and again; the plugin's own functions
choose. Beside the schemes that keep the distribution stand two that do not, to show what the tests would see: a green
list, and no mark but a slightly lower temperature. Exits with 1 when the first are told apart.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from serving.engine.plugin.draws import make_draw
from serving.engine.plugin.green_kernel import add_green
from serving.engine.plugin.words import context_words, key_words
from serving.provenance import Detector
from serving.provenance.schemes import BEFORE_THE_ANSWER
from serving.provenance.schemes.kgw import CONTEXT_WIDTH, DEFAULT_DELTA
from training.studies.marks.bigram import Bigram
from training.studies.marks.detection_study import sentences
from training.studies.sections import machine, table_head

Answers = NDArray[np.int64]  # [answers, tokens]
Floats = NDArray[np.float64]

KEEPING = ("gumbel", "dual-gumbel", "synthid")
CHANGING = ("kgw", "temperature .97")
NATS = 2.0
LEVEL = 1e-3
# Cells with fewer answers of both samples together go into one.
FEWEST = 20
FEATURES = 256
# The kernel of the last test: exp(-SHARPNESS * number of places at which two answers differ).
SHARPNESS = 0.15
PERMUTATIONS = 2000


def continuations(model: Bigram, scheme: str, number: int, num_tokens: int, vocabulary: int, seed: int) -> Answers:
    """Answers to one prompt, each with a fresh key. `scheme`: one of the above, or "unmarked"."""
    rng = np.random.default_rng(seed)
    logits = np.full(vocabulary, -np.inf, np.float32)
    answers = np.zeros((number, num_tokens), np.int64)
    first = int(model.candidates(0)[0][0])
    temperature = 0.97 if scheme.startswith("temperature") else 1.0
    with click.progressbar(range(number), label=scheme, file=sys.stderr) as numbers:
        for row in numbers:
            key, seen, said = int(rng.integers(2**63)), set[tuple[int, ...]](), [BEFORE_THE_ANSWER] * CONTEXT_WIDTH
            draw = make_draw(scheme, key, row) if scheme in KEEPING else None
            for position in range(num_tokens):
                tokens, logs = model.candidates(said[-1] if position else first)
                logits[tokens] = logs / temperature
                context, chosen = tuple(said[-CONTEXT_WIDTH:]), -1
                if context not in seen:
                    if draw is not None:
                        chosen = draw(logits, tokens, context_words(list(context)), position)
                    elif scheme == "kgw":
                        add_green(logits, key_words(key), context_words(list(context)), np.float32(DEFAULT_DELTA))
                seen.add(context)
                if chosen < 0:
                    chosen = int(tokens[(logits[tokens] + rng.gumbel(size=len(tokens))).argmax()])
                logits[tokens] = -np.inf
                said.append(chosen)
            answers[row] = said[CONTEXT_WIDTH:]
    return answers


def by_position(ours: Answers, theirs: Answers, length: int) -> float:
    """The p-value of the place at which runs of `length` tokens differ most, corrected for all places."""
    places = ours.shape[1] - length + 1
    return min(1.0, float(places * min(_homogeneity(*_cells(ours, theirs, place, length)) for place in range(places))))


def _cells(ours: Answers, theirs: Answers, place: int, length: int) -> tuple[Floats, Floats]:
    both = np.concatenate((ours, theirs))[:, place : place + length]
    _, cell = np.unique(both, axis=0, return_inverse=True)
    counts = [np.bincount(part, minlength=cell.max() + 1).astype(float) for part in np.split(cell.ravel(), [len(ours)])]
    rare = counts[0] + counts[1] < FEWEST
    mine, other = (np.append(count[~rare], count[rare].sum()) for count in counts)
    return mine, other


def _homogeneity(mine: Floats, other: Floats) -> float:
    """The p-value of the chi-square test that samples of one size have the same distribution over cells."""
    filled = mine + other > 0
    statistic = float((np.square(mine - other)[filled] / (mine + other)[filled]).sum())
    return float(chi2.sf(statistic, max(1, filled.sum() - 1)))


def whole_answers(ours: Answers, theirs: Answers, permutations: int = PERMUTATIONS) -> float:
    """Maximum mean discrepancy between whole answers, p by permutation; both samples of one size.

    The cosine of a sum of normal variables, one for each token at each place, has the kernel's mean: features so made
    stand in for all pairs of answers.
    """
    rng = np.random.default_rng(1)
    both = np.concatenate((ours, theirs))
    tokens, index = np.unique(both, return_inverse=True)
    angles = np.tile(rng.uniform(0, 2 * np.pi, FEATURES).astype(np.float32), (len(both), 1))
    for column in index.reshape(both.shape).T:
        angles += rng.normal(0, np.sqrt(2 * SHARPNESS), (len(tokens), FEATURES)).astype(np.float32)[column]
    features = np.cos(angles)
    features -= features.mean(axis=0)
    sides = np.repeat(np.array([1, -1], np.float32), len(ours))
    seen = float(np.square(sides @ features).sum())
    as_large = sum(
        int((np.square(np.array([rng.permutation(sides) for _ in range(50)]) @ features).sum(axis=1) >= seen).sum())
        for _ in range(permutations // 50)
    )
    return (1 + as_large) / (1 + permutations)


TESTS: dict[str, Callable[[Answers, Answers], float]] = {
    "tokens by place": lambda ours, theirs: by_position(ours, theirs, 1),
    "pairs by place": lambda ours, theirs: by_position(ours, theirs, 2),
    "triples by place": lambda ours, theirs: by_position(ours, theirs, 3),
    "whole answers": whole_answers,
}


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, exists=True), help="Folder with `test.txt`.")
@click.option("--model-folder", required=True, type=click.Path(path_type=Path, exists=True), help="For the tokenizer.")
@click.option("--answers", default=10_000, show_default=True)
@click.option("--tokens", default=12, show_default=True, help="Tokens per answer.")
@click.option("--scheme", "schemes", multiple=True, type=click.Choice([*KEEPING, *CHANGING]), help="Default: all.")
@click.option("--seed", default=1, show_default=True)
def main(data: Path, model_folder: Path, answers: int, tokens: int, schemes: tuple[str, ...], seed: int) -> None:
    """Try to tell marked answers from unmarked ones."""
    ids = Detector(model_folder).token_ids(sentences((data / "test.txt").read_text()))
    model, vocabulary = Bigram(ids, NATS, seed=seed), max(ids) + 1
    unmarked = continuations(model, "unmarked", answers, tokens, vocabulary, seed)
    about = machine()
    click.echo(f"{about['date']}; {about['cores']} cores ({about['cpu']}), load {about['load']}\n")
    click.echo("\n".join(table_head(f"{answers} answers of {tokens} tokens, a key each", *TESTS)))
    told = []
    for number, scheme in enumerate(schemes or (*KEEPING, *CHANGING)):
        marked = continuations(model, scheme, answers, tokens, vocabulary, seed + number + 1)
        p_values = [test(marked, unmarked) for test in TESTS.values()]
        click.echo(f"| {scheme} | {' | '.join(f'{p:.2g}' for p in p_values)} |")
        told += [scheme] if scheme in KEEPING and min(p_values) * len(TESTS) < LEVEL else []
    if told:
        raise click.ClickException(f"told from unmarked answers: {', '.join(told)}")


if __name__ == "__main__":
    main()
