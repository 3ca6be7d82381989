"""What detection is worth: attribution among many keys, false alarms on human text, power, abstention, edits, spans.

    python -m training.studies.marks.detection --data FOLDER --model-folder .signet/registry/smollm2-135m-instruct/1

FOLDER holds `test.txt` and `valid.txt` of WikiText-2, or other large plain texts of these names. Marked texts come from
a small model of the text's own words, which speaks as surely as it is told to. Exits with 1 when a bar is missed.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from tokenizers import Tokenizer

from serving.provenance import Detector, detect
from serving.provenance.detection.calibrate import windows_of
from training.studies.marks.bigram import Bigram
from training.studies.marks.detection_human import calibration, claims, false_alarms
from training.studies.marks.detection_study import KINDS, Study, keys_of_many_tenants, progress, sentences
from training.studies.marks.detection_temperature import temperature
from training.studies.marks.detection_texts import edits, power, spans
from training.studies.sections import machine, table_head

# Of human texts fewer are asked about one by one: `claims` asks about thousands.
HUMAN_TEXTS = 10


def attribution(study: Study, texts: int, num_tokens: int = 400) -> None:
    """Which of all keys: right, wrong and none; what it takes."""
    study.lines += [
        f"### Attribution among {len(study.keys)} keys, {num_tokens} tokens, threshold 1e-3",
        "",
        *table_head("text", "texts", "right key", "none", "wrong key"),
    ]
    wrong_in_all, total, seconds, cpu_seconds, right_prose = 0, 0, [], [], 1.0
    chosen = random.Random(1)
    human = windows_of(study.human, num_tokens)
    for kind, nats in [*study.kinds.items(), ("human", 0.0)]:
        model = Bigram(study.spoken, nats) if nats else None
        right = none = wrong = 0
        asked = texts if model else min(texts, HUMAN_TEXTS)
        total += asked
        for number in progress(range(asked), kind):
            key = chosen.choice(study.keys)
            tokens = model.answer(num_tokens, key.seed).tokens if model else human[number % len(human)]
            began, cpu = time.perf_counter(), time.process_time()
            detection = detect(tokens, study.keys)
            seconds.append(time.perf_counter() - began)
            cpu_seconds.append(time.process_time() - cpu)
            none += not detection.marked
            right += bool(model) and detection.key_id == key.id
            wrong += detection.marked and (model is None or detection.key_id != key.id)
        wrong_in_all += wrong
        if nats >= 0.5:
            right_prose = min(right_prose, right / texts)
        study.lines.append(
            f"| {kind}{f', {nats} nats a token' if nats else ''} | {asked} | {right} | {none} | {wrong} |"
        )
    study.lines += [
        "",
        f"Right in prose: at least **{right_prose:.1%}**; bar 98%: {study.bar(right_prose >= 0.98, 'attribution')}. "
        f"Wrong keys named: **{wrong_in_all}** of {total} texts; bar 1e-3: "
        f"{study.bar(wrong_in_all <= max(1, total * 1e-3), 'false claims')}. One core: median "
        f"**{np.median(cpu_seconds):.2f} s** of processor time, {np.median(seconds):.2f} s by the clock, best "
        f"{min(seconds):.2f} s; bar 1 s: {study.bar(float(np.median(cpu_seconds)) < 1, 'attribution speed')}.",
        "",
    ]


# Each with the number of texts of a kind, or of keys, that it takes; `claims` takes so many stretches of human text.
PARTS: dict[str, tuple[Callable[[Study, int], None], int]] = {
    "attribution": (attribution, 100),
    "claims": (claims, 400),
    "false-alarms": (false_alarms, 100),
    "calibration": (calibration, 50),
    "power": (power, 400),
    "temperature": (temperature, 100),
    "edits": (edits, 100),
    "spans": (spans, 50),
}


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, exists=True), help="Folder with the human text.")
@click.option("--model-folder", required=True, type=click.Path(path_type=Path, exists=True), help="For the tokenizer.")
@click.option(
    "--traffic",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of a tenant's texts to calibrate with and to ask about, in turns; default: those of FOLDER.",
)
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)), help="Default: all.")
@click.option("--num-keys", default=10_000, show_default=True)
@click.option("--number", type=click.IntRange(2), help="Texts of each kind, or keys, in place of each part's own.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Of text; default: all.")
def main(
    data: Path,
    model_folder: Path,
    traffic: Path | None,
    parts: tuple[str, ...],
    num_keys: int,
    number: int | None,
    kinds: tuple[str, ...],
) -> None:
    """Study detection."""
    detector, asked = Detector(model_folder), parts or tuple(PARTS)
    text = (data / "test.txt").read_text()
    human, spoken = detector.token_ids(text), detector.token_ids(sentences(text))
    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    chosen = {kind: nats for kind, nats in KINDS.items() if not kinds or kind in kinds}
    files = [data / "valid.txt", data / "test.txt"] if traffic is None else sorted(traffic.glob("*.txt"))
    own = [detector.token_ids(file.read_text(errors="replace")) for file in files] if "calibration" in asked else []
    study = Study(detector, tokenizer, human, spoken, (own[::2], own[1::2]), keys_of_many_tenants(num_keys), chosen)
    for part in asked:
        measure, usual = PARTS[part]
        measure(study, number or usual)
    about = machine()
    named = "".join(f" --part {part}" for part in parts)
    command = f"python -m training.studies.marks.detection --data wikitext2 --model-folder …{named}"
    click.echo(f"`{command}`, {about['date']}; {about['cores']} cores ({about['cpu']}), load {about['load']}.\n")
    click.echo("\n".join(study.lines))
    if study.missed:
        raise click.ClickException(f"bars missed: {json.dumps(study.missed)}")


if __name__ == "__main__":
    main()
