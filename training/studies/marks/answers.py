"""Keeps marked answers of a real engine, with what the engine says their tokens were drawn from.

    python -m training.studies.marks.answers --engine-url http://127.0.0.1:8001 --keyring .signet/keyring.json \
        --kind prose --temperature 0.7 --out answers/

One file a kind, scheme and sampling; what is there already is kept and added to. Each answer has a key of its own, and
ends where the model ends it: what keeps it from ending is not in the log-probabilities.
`training.studies.marks.detection_answers` reads the files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from serving.provenance import Keyring
from serving.provenance.commands.engine import LISTED
from serving.provenance.schemes import SCHEMES
from training.studies.marks.engine import KINDS, TENANT, Engine, mark, served_model

UNMARKED = "unmarked"
# What is studied is not speed.
STREAMS = 96


def kept(
    engine: Engine, keyring: Keyring, kind: str, scheme: str, first: int, answers: int, **fields: Any
) -> list[Any]:
    """Answers to the questions of a kind, in turns, from the `first` on."""
    keys = [keyring.mark_key(f"{TENANT}-{number}") for number in range(first, first + answers)]
    prompts = [KINDS[kind][number % len(KINDS[kind])] for number in range(first, first + answers)]
    bodies = [
        engine.body(prompt, False, logprobs=True, top_logprobs=LISTED, **fields)
        | mark(None if scheme == UNMARKED else scheme, key)
        for prompt, key in zip(prompts, keys, strict=True)
    ]
    choices = engine.answers(bodies, f"{kind}, {scheme}", STREAMS)
    return [
        {
            "prompt": prompt,
            "seed": None if scheme == UNMARKED else key.seed_for(scheme),
            "text": choice["message"]["content"],
            "finish_reason": choice["finish_reason"],
            "token_ids": choice["token_ids"],
            "logprobs": [round(place["logprob"], 4) for place in choice["logprobs"]["content"]],
            "top_logprobs": [
                [round(one["logprob"], 4) for one in place["top_logprobs"]] for place in choice["logprobs"]["content"]
            ],
        }
        for prompt, key, choice in zip(prompts, keys, choices, strict=True)
    ]


@click.command()
@click.option("--engine-url", required=True, help="A running engine with Signet's plugin.")
@click.option("--keyring", required=True, type=click.Path(path_type=Path, exists=True), help="The engine's.")
@click.option("--kind", default="prose", show_default=True, type=click.Choice([*KINDS]), help="Of text asked for.")
@click.option("--scheme", default="gumbel", show_default=True, type=click.Choice([*SCHEMES, UNMARKED]))
@click.option("--temperature", default=1.0, show_default=True)
@click.option("--top-k", default=0, show_default=True)
@click.option("--top-p", default=1.0, show_default=True)
@click.option("--answers", default=100, show_default=True)
@click.option("--tokens", default=200, show_default=True, help="Tokens per answer at most.")
@click.option("--min-tokens", default=0, show_default=True, help="Before that the model may not end an answer.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to keep them in.")
def main(
    engine_url: str,
    keyring: Path,
    kind: str,
    scheme: str,
    temperature: float,
    top_k: int,
    top_p: float,
    answers: int,
    tokens: int,
    min_tokens: int,
    out: Path,
) -> None:
    """Ask an engine, and keep its answers."""
    engine = Engine(
        engine_url.rstrip("/"), served_model(engine_url.rstrip("/")), Keyring.open(keyring).mark_key(TENANT)
    )
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    filters = "" if (top_k, top_p) == (0, 1.0) else f"-top_k {top_k}-top_p {top_p:g}"
    file = out / f"{scheme}-{kind}-{temperature:g}{filters}.json"
    out.mkdir(parents=True, exist_ok=True)
    before = json.loads(file.read_text())["answers"] if file.exists() else []
    length = {"max_tokens": tokens, "min_tokens": min_tokens}
    said = kept(engine, Keyring.open(keyring), kind, scheme, len(before), answers, **length, **sampling)
    file.write_text(json.dumps({"scheme": scheme, "kind": kind, "sampling": sampling, "answers": before + said}))
    click.echo(f"{file}: {len(before) + len(said)} answers")


if __name__ == "__main__":
    main()
