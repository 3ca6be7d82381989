"""Distills a table of word vectors from a sentence encoder: each word alone, principal directions, eight bits."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.guard.classifiers.ngrams import normal, word_hashes
from serving.guard.classifiers.word_vectors import NUM_DIMENSIONS, WordVectors
from training.errors import SourceError
from training.guard.classifiers.examples import OpenData
from training.guard.classifiers.grammar import templates
from training.progress import track
from training.registry.files import hash_files
from training.registry.manifest import digest_of_files

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_SLOTS = re.compile(r"\{[^}]*\}")
_TITLE = re.compile(r"^# *(.+?) *$", re.MULTILINE)
_LICENCE = re.compile(r"^license: *(\S+)", re.MULTILINE)
_COMMON = 5
"""Texts of the open data that a word has to be in."""
_RARE_RANK = 40_000
"""The rank given to words that the encoder's vocabulary, which is in the order of frequency, has not."""
_TYPICAL = 1e-3
"""Words more frequent than this tell little (Arora et al. 2017)."""
_MEASURED = 6_000
"""Words, the most frequent ones, from which the principal directions are taken."""
_AT_ONCE = 512


def distill(encoder: Path, data: OpenData, show: bool = True) -> WordVectors:
    """Vectors of the encoder's own whole words, of the grammar's, and of those that are common in the data."""
    reader, model = _loaded(encoder)
    own = reader.get_vocab()
    if not any(piece.startswith("##") for piece in own):
        raise SourceError(f"{encoder}: has no WordPiece vocabulary, which says what whole words are")
    ranks = vocabulary(sorted(own, key=own.__getitem__), data)
    words = sorted(ranks)
    vectors = _encoded(reader, model, words, show)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    frequent = np.argsort([ranks[word] for word in words], kind="stable")[:_MEASURED]
    return compressed(words, vectors, np.array([ranks[word] for word in words]), frequent)


def about(encoder: Path) -> dict[str, str]:
    """Which encoder it was, for the data card; its name and licence as its own card states them."""
    card = encoder / "README.md"
    said = card.read_text() if card.is_file() else ""
    title, licence = _TITLE.search(said), _LICENCE.search(said)
    files = hash_files(encoder, sorted(path.name for path in encoder.iterdir() if path.is_file()))
    return {
        "encoder": title[1] if title else encoder.resolve().name,
        "digest": digest_of_files(files),
        "licence": licence[1] if licence else "not stated",
    }


def vocabulary(own: list[str], data: OpenData) -> dict[str, int]:
    """Words and the rank of each by frequency."""
    ranks = {word: rank for rank, word in enumerate(own) if _WORD.fullmatch(word)}
    for lines in templates().values():
        for line in lines:
            for word in _WORD.findall(_SLOTS.sub(" ", normal(line))):
                ranks.setdefault(word, _RARE_RANK)
    counts = Counter(
        word for texts in data.train.values() for _, text in texts for word in set(_WORD.findall(normal(text)))
    )
    for word, count in counts.items():
        if count >= _COMMON:
            ranks.setdefault(word, _RARE_RANK)
    return ranks


def compressed(
    words: list[str], vectors: NDArray[np.float32], ranks: NDArray[Any], frequent: NDArray[Any]
) -> WordVectors:
    """The principal directions of the vectors, each as long as its word is telling, in eight bits."""
    centred = vectors - vectors.mean(axis=0)
    directions = np.linalg.eigh(np.cov(centred[frequent].T))[1][:, ::-1][:, :NUM_DIMENSIONS]
    short = centred @ directions.astype(np.float32)
    short = np.pad(short, ((0, 0), (0, NUM_DIMENSIONS - short.shape[1])))
    frequency = 10 / (ranks + 100)  # Zipf's law, in words of a million
    telling = _TYPICAL / (_TYPICAL + frequency)
    short *= (telling / np.maximum(np.linalg.norm(short, axis=1), 1e-6))[:, None]
    hashes = np.array([word_hashes(word)[0] for word in words], dtype=np.uint64)
    order = np.argsort(hashes)
    return WordVectors(hashes[order], np.round(127 * short[order]).astype(np.int8))


def _loaded(encoder: Path) -> tuple[Any, Any]:
    """Tokenizer and model."""
    # Only who distills needs these.
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # ours shows the steps
    try:
        reader = AutoTokenizer.from_pretrained(encoder, local_files_only=True)
        return reader, AutoModel.from_pretrained(encoder, local_files_only=True).eval()
    except (OSError, ValueError) as error:
        why = str(error).strip().splitlines()[0]
        raise SourceError(f"{encoder}: no encoder that transformers loads: {why}") from None


def _encoded(reader: Any, model: Any, words: list[str], show: bool) -> NDArray[np.float32]:
    import torch

    by_length = sorted(range(len(words)), key=lambda place: len(words[place]))
    result = np.empty((len(words), model.config.hidden_size), dtype=np.float32)
    with torch.no_grad(), track("meanings of words", show) as progress:
        for begin in range(0, len(words), _AT_ONCE):
            places = by_length[begin : begin + _AT_ONCE]
            read = reader([words[place] for place in places], padding=True, return_tensors="pt")
            mask = read["attention_mask"][..., None].float()
            states = model(**read).last_hidden_state
            result[places] = ((states * mask).sum(1) / mask.sum(1)).numpy()
            progress(begin + len(places), len(words))
    return result
