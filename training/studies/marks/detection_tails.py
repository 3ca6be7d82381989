"""How far twenty tokens tell a whole distribution: kept answers, against the model's own over all of its vocabulary.

    python -m training.studies.marks.detection_tails FOLDER --model-folder .signet/registry/smollm2-135m-instruct/1

FOLDER holds answers that `training.studies.marks.answers` kept; PyTorch reads some of each file again. By temperature:
by how much the natural log of the tokens' probabilities is off, and the collision entropy of their places.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from serving.provenance.commands.engine import LISTED
from serving.provenance.detection.drawn import Sampling, drawn_from
from training.studies.sections import machine, table_head

Floats = NDArray[np.float64]

TEMPERATURES = (0.3, 0.5, 0.7, 1.0, 1.3, 2.0)


def errors(logs: Floats, token_ids: list[int], temperature: float) -> tuple[Floats, Floats]:
    """Of log-probabilities and nats of each token, from whole distributions [T, V] before temperature."""
    rows = np.arange(len(token_ids))
    own, listed = logs[rows, token_ids], np.sort(logs, axis=1)[:, ::-1][:, :LISTED]
    told = drawn_from(own.tolist(), listed.tolist(), Sampling(temperature))
    tempered = logs / temperature
    tempered -= np.logaddexp.reduce(tempered, axis=1)[:, None]
    assert told.collision_nats is not None
    nats = -np.logaddexp.reduce(2 * tempered, axis=1)
    return np.log(told.probabilities) - tempered[rows, token_ids], told.collision_nats - nats


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--model-folder", required=True, type=click.Path(path_type=Path, exists=True), help="The model's.")
@click.option("--answers", default=4, show_default=True, help="Of each file.")
def main(folder: Path, model_folder: Path, answers: int) -> None:
    """Compare what twenty tokens tell with whole distributions."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    off: dict[float, list[tuple[Floats, Floats]]] = {temperature: [] for temperature in TEMPERATURES}
    for file in sorted(folder.glob("*.json")):
        for answer in json.loads(file.read_text())["answers"][:answers]:
            asked = [{"role": "user", "content": answer["prompt"]}]
            prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)["input_ids"]
            ids = answer["token_ids"]
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
            logs = logits.double().log_softmax(-1).numpy()
            for temperature in TEMPERATURES:
                off[temperature].append(errors(logs, ids, temperature))
    click.echo(f"{machine()['date']}\n")
    columns = (
        "tokens",
        "log of probability off by: mean",
        "mean size",
        "99% within",
        "nats off by: mean",
        "99% within",
    )
    click.echo("\n".join(table_head("temperature", *columns)))
    for temperature, found in off.items():
        own, nats = (np.concatenate(column) for column in zip(*found, strict=True))
        cells = [own.mean(), np.abs(own).mean(), np.quantile(np.abs(own), 0.99)]
        cells += [nats.mean(), np.quantile(np.abs(nats), 0.99)]
        click.echo(f"| {temperature:g} | {len(own)} | {' | '.join(f'{cell:.4f}' for cell in cells)} |")


if __name__ == "__main__":
    main()
