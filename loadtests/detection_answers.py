"""Predicted and measured power on a real engine's answers, kept by `loadtests.mark_schemes power --save FOLDER`.

    python -m loadtests.detection_answers FOLDER

By file: found at p < 1e-3 and predicted from the engine's log-probabilities, by length. They are those before the
temperature, so at temperatures below 1 the prediction is too high: that is part of what is shown.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np

from loadtests.detection_study import LEVEL, predicted_power
from loadtests.report import machine
from loadtests.sections import table_head
from serving.provenance.schemes import SCHEMES

LENGTHS = (15, 25, 50, 100, 200)


def found_and_predicted(scheme: str, seed: int, token_ids: list[int], logprobs: list[float]) -> tuple[bool, float]:
    """Of one answer, or its beginning."""
    reader = SCHEMES[scheme]
    pairs = reader.pairs(token_ids)
    if not len(pairs):
        return False, 0.0
    score = float(reader.token_scores([seed], pairs).sum())
    found = reader.log_p_value(score, len(pairs)) < np.log(LEVEL)
    return found, predicted_power(scheme, token_ids, logprobs)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(folder: Path) -> None:
    """Compare the power that was predicted with the power that answers have."""
    click.echo(f"{machine()['date']}\n")
    columns = (f"{length} tokens" for length in LENGTHS)
    click.echo("\n".join(table_head("answers", "number", "nats a token", *columns)))
    for file in sorted(folder.glob("*.json")):
        kept = json.loads(file.read_text())
        if kept["scheme"] not in SCHEMES:
            continue
        cells = []
        for length in LENGTHS:
            both = [
                found_and_predicted(kept["scheme"], kept["seed"], each["token_ids"][:length], each["logprobs"][:length])
                for each in kept["answers"]
            ]
            found, predicted = np.mean(both, axis=0)
            cells.append(f"{found:.2f} / {predicted:.2f}")
        nats = -np.mean([logprob for each in kept["answers"] for logprob in each["logprobs"]])
        click.echo(f"| {file.stem} | {len(kept['answers'])} | {nats:.2f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
