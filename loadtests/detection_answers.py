"""Predicted and measured power on a real engine's answers, kept by `loadtests.mark_answers`.

    python -m loadtests.detection_answers FOLDER

By file and length: the share that is found at p < 1e-3, and what was predicted from the engine's log-probabilities of
the tokens alone, as at temperature 1, and from those of the twenty likeliest in each place, at the answers' own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from loadtests.detection_study import LEVEL, log_p, predicted_power
from loadtests.report import machine
from loadtests.sections import table_head
from serving.provenance.detection.drawn import Sampling, drawn_from
from serving.provenance.schemes import SCHEMES

LENGTHS = (15, 25, 50, 100, 200)
# Fewer say nothing.
FEWEST = 10


def found_and_predicted(scheme: str, sampling: Sampling, answer: dict[str, Any], length: int) -> tuple[float, ...]:
    """Of the answer's beginning: whether it is found, and the power told by its tokens alone and by their rivals."""
    reader = SCHEMES[scheme]
    ids, logprobs, listed = (answer[name][:length] for name in ("token_ids", "logprobs", "top_logprobs"))
    pairs = reader.pairs(ids)
    if not len(pairs):
        return 0.0, 0.0, 0.0
    return (
        float(log_p(scheme, answer["seed"], ids) < np.log(LEVEL)),
        predicted_power(scheme, ids, drawn_from(logprobs)),
        predicted_power(scheme, ids, drawn_from(logprobs, listed, sampling)),
    )


def row(name: str, kept: dict[str, Any]) -> tuple[str, float]:
    """A line of the table, and how far the better prediction is off at most, beyond what chance makes likely."""
    sampling, cells, off = Sampling(**kept["sampling"]), [], 0.0
    for length in LENGTHS:
        long = [answer for answer in kept["answers"] if len(answer["token_ids"]) >= length]
        if len(long) < FEWEST:
            cells.append("–")
            continue
        all_of_them = np.array([found_and_predicted(kept["scheme"], sampling, answer, length) for answer in long])
        found, blind, told = all_of_them.mean(axis=0)
        chance = 1.96 * np.sqrt((all_of_them[:, 2] * (1 - all_of_them[:, 2])).sum()) / len(long)
        off = max(off, abs(found - told) - chance)
        cells.append(f"{found:.2f} / {told:.2f} ±{chance:.2f} / {blind:.2f}")
    places = [drawn_from(answer["logprobs"], answer["top_logprobs"], sampling) for answer in kept["answers"]]
    nats = -np.mean(np.concatenate([np.log(place.probabilities) for place in places]))
    return f"| {name} | {len(kept['answers'])} | {nats:.2f} | {' | '.join(cells)} |", off


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(folder: Path) -> None:
    """Compare the power that was predicted with the power that answers have."""
    click.echo(f"{machine()['date']}\n")
    columns = (f"{length} tokens" for length in LENGTHS)
    click.echo("\n".join(table_head("answers", "number", "nats a token", *columns)))
    off = 0.0
    for file in sorted(folder.glob("*.json")):
        kept = json.loads(file.read_text())
        if kept["scheme"] in SCHEMES:
            line, beyond = row(file.stem, kept)
            off = max(off, beyond)
            click.echo(line)
    click.echo(f"\nLargest difference between found and predicted beyond chance: {100 * off:.0f} points; bar 5.")


if __name__ == "__main__":
    main()
