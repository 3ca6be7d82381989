"""Predicted and measured power on a real engine's answers, kept by `training.studies.marks.answers`.

    python -m training.studies.marks.detection_answers FOLDER

By file and length: the share that is found at p < 1e-3, what was predicted from the engine's log-probabilities of the
twenty likeliest in each place, at the answers' temperature, and what from those of the tokens alone, as at 1. Below:
the same of the test that weighs tokens by these, and found at p < 1e-2, 1e-3 and 1e-5.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from serving.provenance.detection.drawn import Sampling, drawn_from
from serving.provenance.schemes import SCHEMES
from training.studies.marks.detection_study import GUMBEL, LEVEL, log_p, predicted_power, weighted_found_and_power
from training.studies.sections import machine, table_head

LENGTHS = (15, 25, 50, 100, 200, 400)
LEVELS = (1e-2, 1e-3, 1e-5)
# Fewer say nothing.
FEWEST = 10


@dataclass(frozen=True)
class Judged:
    """The beginning of an answer."""

    log_p: float
    told: float
    """The power that the likeliest tokens in each place tell, at the answer's temperature."""
    blind: float
    """The power that its tokens alone tell, as if they had been drawn at temperature 1."""
    weighted: tuple[bool, float] = (False, 0.0)
    """Whether the test that weighs its tokens finds it, and the power of that; of Gumbel marks."""


def judged(scheme: str, sampling: Sampling, answer: dict[str, Any], length: int) -> Judged:
    """The answer's first tokens, read with the key that marked it."""
    ids, logprobs, listed = (answer[name][:length] for name in ("token_ids", "logprobs", "top_logprobs"))
    if not len(SCHEMES[scheme].pairs(ids)):
        return Judged(0.0, 0.0, 0.0)
    drawn = drawn_from(logprobs, listed, sampling)
    return Judged(
        log_p(scheme, answer["seed"], ids),
        predicted_power(scheme, ids, drawn),
        predicted_power(scheme, ids, drawn_from(logprobs)),
        weighted_found_and_power(answer["seed"], ids, drawn) if scheme == GUMBEL.name else (False, 0.0),
    )


def judged_by_length(kept: dict[str, Any]) -> dict[int, list[Judged]]:
    """Of a file's answers those that are as long; none of a length that few have."""
    sampling, by_length = Sampling(**kept["sampling"]), {}
    for length in LENGTHS:
        long = [answer for answer in kept["answers"] if len(answer["token_ids"]) >= length]
        if len(long) >= FEWEST:
            by_length[length] = [judged(kept["scheme"], sampling, answer, length) for answer in long]
    return by_length


def power_cell(answers: Sequence[Judged]) -> tuple[str, float]:
    """Found, predicted, and as if at temperature 1; and how far the prediction is off beyond chance."""
    share = np.mean([one.log_p < math.log(LEVEL) for one in answers])
    told, blind = np.array([one.told for one in answers]), np.mean([one.blind for one in answers])
    chance = 1.96 * math.sqrt((told * (1 - told)).sum()) / len(told)
    cell = f"{share:.2f} / {told.mean():.2f} ±{chance:.2f} / {blind:.2f}"
    return cell, float(abs(share - told.mean()) - chance)


def weighted_cell(answers: Sequence[Judged]) -> str:
    """Found and predicted by the test that weighs tokens."""
    share, told = np.mean([one.weighted for one in answers], axis=0)
    return f"{share:.2f} / {told:.2f}"


def levels_cell(answers: Sequence[Judged]) -> str:
    """Found at each level."""
    return " ".join(f"{np.mean([one.log_p < math.log(level) for one in answers]):.2f}" for level in LEVELS)


def nats_of(kept: dict[str, Any]) -> float:
    """Mean surprise of a token, as it was drawn."""
    sampling = Sampling(**kept["sampling"])
    places = [drawn_from(answer["logprobs"], answer["top_logprobs"], sampling) for answer in kept["answers"]]
    return -float(np.mean(np.concatenate([np.log(place.probabilities) for place in places])))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(folder: Path) -> None:
    """Compare the power that was predicted with the power that answers have."""
    click.echo(f"{machine()['date']}\n")
    lengths = [f"{length} tokens" for length in LENGTHS]
    powers = table_head("answers", "number", "nats a token", *lengths)
    weighted = table_head("answers, tokens weighted", *lengths)
    levels = table_head("answers", *lengths)
    pooled: dict[str, dict[int, list[Judged]]] = {}
    off = 0.0
    for file in sorted(folder.glob("*.json")):
        kept = json.loads(file.read_text())
        if kept["scheme"] not in SCHEMES:
            continue
        found = judged_by_length(kept)
        cells = {length: power_cell(answers) for length, answers in found.items()}
        off = max([off, *(beyond for _, beyond in cells.values())])
        shown = [cells[length][0] if length in cells else "–" for length in LENGTHS]
        powers.append(f"| {file.stem} | {len(kept['answers'])} | {nats_of(kept):.2f} | {' | '.join(shown)} |")
        if kept["scheme"] == GUMBEL.name:
            shown = [weighted_cell(found[length]) if length in found else "–" for length in LENGTHS]
            weighted.append(f"| {file.stem} | {' | '.join(shown)} |")
        shown = [levels_cell(found[length]) if length in found else "–" for length in LENGTHS]
        levels.append(f"| {file.stem} | {' | '.join(shown)} |")
        together = pooled.setdefault(f"{kept['scheme']}, temperature {kept['sampling']['temperature']:g}", {})
        for length, answers in found.items():
            together.setdefault(length, []).extend(answers)
    for name, by_length in pooled.items():
        shown = [power_cell(by_length[length])[0] if length in by_length else "–" for length in LENGTHS]
        powers.append(f"| {name}, all | | | {' | '.join(shown)} |")
    click.echo("\n".join(powers))
    click.echo(f"\nFarther off than chance explains, at most: {100 * max(off, 0):.0f} points; bar 5.\n")
    click.echo("\n".join([*weighted, "", *levels]))


if __name__ == "__main__":
    main()
