"""What a model's paraphrase leaves of a mark: marked answers, written again in its own words by an engine.

    python -m loadtests.paraphrase FOLDER --engine-url http://127.0.0.1:8001 \
        --model-folder .signet/registry/smollm2-135m-instruct/1

FOLDER holds answers that `loadtests.mark_answers` kept. Beside what is found: which share of the paraphrase's runs of
five tokens stood in the original, for those are all that a mark can survive in, and which share of its words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
from tokenizers import Tokenizer

from loadtests.detection_study import LEVEL, log_p
from loadtests.mark_power import Engine, served_model
from loadtests.report import machine
from loadtests.sections import table_head
from serving.provenance.keyring import Keyring
from serving.provenance.schemes import SCHEMES

RUN = 5
LENGTHS = (200, 400)
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
        {tuple(each[place : place + run]) for place in range(len(each) - run + 1)} for each in (original, other)
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


def row(scheme: str, length: int, found: Sequence[Comparison]) -> str:
    """A line of the table."""
    shares = [
        sum(one < math.log(LEVEL) for one in logs) / len(found)
        for logs in zip(*((c.before, c.after) for c in found), strict=True)
    ]
    middle = [
        median(values)
        for values in zip(*((c.before, c.after, c.runs_kept, c.words_kept, c.length) for c in found), strict=True)
    ]
    p_values = [f"1e{log / math.log(10):.0f}" for log in middle[:2]]
    kept = [f"{share:.0%}" for share in middle[2:]]
    before, after = (f"{share:.2f}" for share in shares)
    cells = [f"{before}, {p_values[0]}", f"**{after}**, {p_values[1]}", *kept]
    return f"| {scheme}, {length} tokens | {len(found)} | {' | '.join(cells)} |"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--engine-url", required=True, help="The engine that paraphrases, unmarked.")
@click.option("--keyring", required=True, type=click.Path(path_type=Path, exists=True), help="The engine's.")
@click.option("--model-folder", required=True, type=click.Path(path_type=Path, exists=True), help="For the tokenizer.")
@click.option("--answers", default=30, show_default=True, help="Of each scheme and length.")
@click.option("--temperature", default=0.7, show_default=True, help="Of the paraphrase.")
@click.option("--keep", type=click.Path(path_type=Path, dir_okay=False), help="File to write the texts to.")
def main(
    folder: Path,
    engine_url: str,
    keyring: Path,
    model_folder: Path,
    answers: int,
    temperature: float,
    keep: Path | None,
) -> None:
    """Let an engine write marked answers in its own words, and look for the marks."""
    url = engine_url.rstrip("/")
    engine = Engine(url, served_model(url), Keyring.open(keyring).mark_key("paraphrase"))
    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    click.echo(f"{machine()['date']}\n")
    columns = (
        "answers",
        "number",
        "found, median p before",
        "and after",
        f"runs of {RUN} tokens kept",
        "words kept",
        "length",
    )
    click.echo("\n".join(table_head(*columns)))
    texts = []
    for file in sorted(folder.glob("*.json")):
        kept = json.loads(file.read_text())
        if kept["scheme"] not in SCHEMES:
            continue
        for length in LENGTHS:
            long = [answer for answer in kept["answers"] if len(answer["token_ids"]) >= length][:answers]
            originals = [tokenizer.decode(answer["token_ids"][:length]) for answer in long]
            bodies = [
                engine.body(ASK.format(text), False, max_tokens=length * 3 // 2, temperature=temperature)
                for text in originals
            ]
            choices = engine.answers(bodies, f"{kept['scheme']}, {length} tokens")
            said = [choice["message"]["content"] for choice in choices]
            found = [
                compared(tokenizer, kept["scheme"], answer["seed"], original, other)
                for answer, original, other in zip(long, originals, said, strict=True)
            ]
            texts += [
                {"scheme": kept["scheme"], "original": a, "paraphrase": b} for a, b in zip(originals, said, strict=True)
            ]
            if found:
                click.echo(row(kept["scheme"], length, found))
    if keep is not None:
        keep.write_text(json.dumps(texts, indent=1))


if __name__ == "__main__":
    main()
