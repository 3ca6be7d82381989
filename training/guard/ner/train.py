"""One training of the tagger: texts, weights, a measurement on texts that were held out, and a data card."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from pathlib import Path
from typing import Any

from serving.guard.ner.model import NUM_ROWS, TAGS, WEIGHTS, WIDTH, Model, write
from serving.guard.ner.tagged_text import TaggedText
from serving.guard.text.folding import fold
from training.errors import TrainingError
from training.guard.ner.fit import Corpus, corpus_of, fit
from training.guard.ner.gazetteer import LOCALES, Gazetteer
from training.guard.ner.texts import NONE, PROSE, SENTENCES, WORDS, Piece, Texts, read_lines
from training.methods.guard_weights import GuardWeights
from training.progress import Track, track
from training.recipes.guard import NamesRecipe
from training.registry import DataDigest

_HELD_OUT = 20
_HELD_OUT_SEED = 1_000_003


def train(recipe: NamesRecipe, folder: Path, show: bool = True) -> GuardWeights:
    """Train as the recipe says; its paths start at `folder`.

    The evaluation is the F1 of each tag's words on held-out generated texts: how well it learnt, not how well it does
    elsewhere.
    """
    prose = read_lines(PROSE) + read_prose([folder / path for path in recipe.prose])
    try:
        gazetteer = Gazetteer(recipe.seed, draws=recipe.draws)
    except ImportError:
        raise TrainingError("faker is missing: pip install 'signet[train]'") from None
    texts = Texts(gazetteer, prose, recipe.seed)
    with track("Writing texts", show) as progress:
        corpus = corpus_of(_drawn(texts, recipe.texts, progress))
    with track("Fitting", show) as progress:
        fitted = fit(corpus, recipe.epochs, recipe.learning_rate, recipe.seed, progress)
    unseen = Texts(gazetteer, prose, recipe.seed + _HELD_OUT_SEED)
    lean = [round(bias / fitted.scale) for bias in recipe.lean]
    evaluation = measure(
        Model(fitted.table, fitted.joint, lean), [unseen.draw() for _ in range(max(1, recipe.texts // _HELD_OUT))]
    )
    return GuardWeights(
        partial(write, table=fitted.table, joint=fitted.joint, scale=fitted.scale, lean=recipe.lean),
        WEIGHTS,
        evaluation,
        _card(recipe, corpus, len(prose), evaluation),
        [
            _digest(SENTENCES.name, SENTENCES.read_text(), len(read_lines(SENTENCES))),
            _digest(WORDS.name, WORDS.read_text(), len(read_lines(WORDS))),
            _digest("prose", "\n".join(prose), len(prose)),
        ],
    )


def _digest(name: str, content: str, rows: int) -> DataDigest:
    return DataDigest(name=name, sha256=hashlib.sha256(content.encode()).hexdigest(), rows=rows, role="train")


def _drawn(texts: Texts, count: int, progress: Track) -> Iterator[Sequence[Piece]]:
    for number in range(count):
        yield texts.draw()
        progress(number + 1, count)


def read_prose(folders: Sequence[Path]) -> list[str]:
    """Paragraphs of ordinary length."""
    paragraphs = []
    for folder in folders:
        for page in sorted(folder.glob("*.md")):
            paragraphs += [text for text in page.read_text().split("\n\n") if 40 < len(text) < 600]
    return paragraphs


def measure(model: Model, texts: Sequence[Sequence[Piece]]) -> dict[str, float]:
    """F1 over words, for each tag."""
    hits, found, wanted = [0] * len(TAGS), [0] * len(TAGS), [0] * len(TAGS)
    for pieces in texts:
        ends = list(accumulate(len(piece.text) for piece in pieces))
        tagged = TaggedText(model, fold("".join(piece.text for piece in pieces)), final=True)
        for number, word in enumerate(tagged.words):
            tag = pieces[next(place for place, end in enumerate(ends) if word.start < end)].tag
            guess = tagged.tag(number)
            if guess != NONE:
                found[guess] += 1
                hits[guess] += guess == tag
            if tag != NONE:
                wanted[tag] += 1
    return {f"{name}_f1": 2 * hits[tag] / max(1, found[tag] + wanted[tag]) for tag, name in enumerate(TAGS)}


def _card(recipe: NamesRecipe, corpus: Corpus, num_prose: int, evaluation: dict[str, float]) -> dict[str, Any]:
    return {
        "purpose": "Finds names of persons and street addresses in prompts and answers, for masking.",
        "data": "Generated: sentences and prose of ours with names, streets, towns and jobs of faker put in. No "
        "person's data.",
        "sources": {
            "sentences": "training/guard/ner/sentences.txt and words.txt, ours (Apache-2.0)",
            "names and places": f"faker {_release('faker')} (MIT), {len(set(LOCALES))} locales",
            "prose": f"{num_prose} paragraphs of our documentation (Apache-2.0) and the recipe's, which name nobody",
        },
        "fitted_with": f"torch {_release('torch')}, on one thread",
        "texts": corpus.num_texts,
        "words": len(corpus.kinds),
        "distinct_words": len(corpus.vocabulary),
        "weights": f"{NUM_ROWS} rows of {WIDTH}, and {NUM_ROWS} of {len(TAGS)}, one byte each",
        "lean": "chosen on a development third of presidio-research's synthetic texts",
        "held_out_generated": evaluation,
        "limits": [
            "English sentences; names and streets of many countries in Latin letters, few in others.",
            "Names in rare or foreign contexts, and single names that are words too, are missed.",
            "Faker's lists are not a fair sample of the world's names: some peoples' are found less often.",
        ],
        "recipe": recipe.model_dump(mode="json"),
    }


def _release(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"
