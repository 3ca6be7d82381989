"""What a model's paraphrase leaves of a mark: marked answers, written again in its own words by an engine.

    python -m training.studies.marks.paraphrase --engine-url http://127.0.0.1:8001 --keyring .signet/keyring.json \
        --model-folder .signet/registry/smollm2-135m-instruct/1

Beside what is found: which share of the paraphrase's runs of five tokens stood in the original, for those are all that
a mark can survive in, and which share of its words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
from tokenizers import Tokenizer

from serving.provenance import Keyring
from serving.provenance.schemes import SCHEMES
from training.studies.marks.detection_study import LEVEL, log_p
from training.studies.marks.engine import KINDS, TENANT, Engine, mark, served_model
from training.studies.sections import machine, table_head

RUN = 5
STREAMS = 96
ASK = (
    "Rewrite the following text in your own words. Keep what it says, but use other words and other sentences. "
    "Answer with the new text only.\n\n{}"
)


@dataclass(frozen=True)
class Comparison:
    """An original and its paraphrase, by what the mark's key says of both."""

    before: float
    """Natural log of the p-value."""
    after: float
    runs_kept: float
    words_kept: float
    length: float
    """Of the paraphrase, over the original's."""


def share_kept(original: Sequence[Any], other: Sequence[Any], run: int) -> float:
    """Of the other's runs of so many items, those that stand in the original too; each once."""
    ours, theirs = (
        {tuple(items[start : start + run]) for start in range(len(items) - run + 1)} for items in (original, other)
    )
    return len(ours & theirs) / len(theirs) if theirs else 0.0


def compared(tokenizer: Tokenizer, scheme: str, seed: int, original: str, paraphrase: str) -> Comparison:
    """Both as a reader has them, from text."""
    ids, others = (tokenizer.encode(text, add_special_tokens=False).ids for text in (original, paraphrase))
    words, other_words = (text.lower().split() for text in (original, paraphrase))
    return Comparison(
        log_p(scheme, seed, ids),
        log_p(scheme, seed, others),
        share_kept(ids, others, RUN),
        share_kept(words, other_words, 1),
        len(others) / max(1, len(ids)),
    )


def row(scheme: str, length: int, comparisons: Sequence[Comparison]) -> str:
    """A line of the table."""
    shares = [
        sum(one < math.log(LEVEL) for one in logs) / len(comparisons)
        for logs in zip(*((c.before, c.after) for c in comparisons), strict=True)
    ]
    middle = [
        median(values)
        for values in zip(*((c.before, c.after, c.runs_kept, c.words_kept, c.length) for c in comparisons), strict=True)
    ]
    p_values = [f"1e{log / math.log(10):.0f}" for log in middle[:2]]
    kept = [f"{share:.0%}" for share in middle[2:]]
    before, after = (f"{share:.2f}" for share in shares)
    cells = [f"{before}, {p_values[0]}", f"**{after}**, {p_values[1]}", *kept]
    return f"| {scheme}, {length} tokens | {len(comparisons)} | {' | '.join(cells)} |"


@dataclass(frozen=True)
class Original:
    """The beginning of a marked answer."""

    scheme: str
    seed: int
    length: int
    text: str


def originals(
    engine: Engine,
    keyring: Keyring,
    tokenizer: Tokenizer,
    schemes: Sequence[str],
    lengths: Sequence[int],
    number: int,
) -> list[Original]:
    """Marked answers, each with a key of its own, and their beginnings of each length."""
    asked = [(scheme, keyring.mark_key(f"{TENANT}-{index}")) for scheme in schemes for index in range(number)]
    length = {"max_tokens": max(lengths), "min_tokens": max(lengths), "temperature": 1.0}
    bodies = [
        engine.body(KINDS["prose"][place % len(KINDS["prose"])], False, **length) | mark(scheme, key)
        for place, (scheme, key) in enumerate(asked)
    ]
    choices = engine.answers(bodies, "marked answers", STREAMS)
    return [
        Original(scheme, key.seed_for(scheme), length, tokenizer.decode(choice["token_ids"][:length]))
        for (scheme, key), choice in zip(asked, choices, strict=True)
        for length in lengths
    ]


@click.command()
@click.option("--engine-url", required=True, help="A running engine with Signet's plugin; it paraphrases unmarked.")
@click.option("--keyring", required=True, type=click.Path(path_type=Path, exists=True), help="The engine's.")
@click.option("--model-folder", required=True, type=click.Path(path_type=Path, exists=True), help="For the tokenizer.")
@click.option("--scheme", "schemes", multiple=True, type=click.Choice([*SCHEMES]), help="Default: all.")
@click.option("--tokens", "lengths", multiple=True, default=(200, 400), show_default=True, help="Of the originals.")
@click.option("--answers", default=10, show_default=True, help="Of each scheme.")
@click.option("--temperature", default=0.7, show_default=True, help="Of the paraphrase.")
@click.option("--keep", type=click.Path(path_type=Path, dir_okay=False), help="File to write the texts to.")
def main(
    engine_url: str,
    keyring: Path,
    model_folder: Path,
    schemes: tuple[str, ...],
    lengths: tuple[int, ...],
    answers: int,
    temperature: float,
    keep: Path | None,
) -> None:
    """Let an engine write marked answers in its own words, and look for the marks."""
    url, ring = engine_url.rstrip("/"), Keyring.open(keyring)
    engine = Engine(url, served_model(url), ring.mark_key(TENANT))
    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    marked = originals(engine, ring, tokenizer, schemes or tuple(SCHEMES), lengths, answers)
    bodies = [
        engine.body(ASK.format(one.text), False, max_tokens=one.length, temperature=temperature) for one in marked
    ]
    said = [choice["message"]["content"] for choice in engine.answers(bodies, "paraphrases", STREAMS)]
    if keep is not None:
        both = [asdict(one) | {"paraphrase": other} for one, other in zip(marked, said, strict=True)]
        keep.write_text(json.dumps(both, indent=1))
    click.echo(f"{machine()['date']}\n")
    shares = (f"runs of {RUN} tokens kept", "words kept", "length")
    click.echo("\n".join(table_head("answers", "number", "found, median p before", "and after", *shares)))
    by_case: dict[tuple[str, int], list[Comparison]] = {}
    for one, other in zip(marked, said, strict=True):
        by_case.setdefault((one.scheme, one.length), []).append(
            compared(tokenizer, one.scheme, one.seed, one.text, other)
        )
    for (scheme, length), comparisons in by_case.items():
        click.echo(row(scheme, length, comparisons))


if __name__ == "__main__":
    main()
