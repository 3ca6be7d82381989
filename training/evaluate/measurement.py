"""One model on one file: perplexity on chats, how well a classifier names texts, or an embedder finds them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from training.data import IGNORED, Chat, ChatEncoder, Example, encode_all, read_chats
from training.data.labelled import read_labelled
from training.data.pairs import read_query_pairs
from training.data.sources import DataFile
from training.evaluate.classification import (
    MULTI_LABEL,
    Classified,
    decide,
    judge,
    labels_of,
    load_classifier,
    longest_text,
    probabilities,
    truth,
    write_predictions,
)
from training.evaluate.loading import load_chat_tokenizer, load_model, load_tokenizer, padding_token
from training.evaluate.perplexity import Perplexity, measure_perplexity
from training.evaluate.retrieval import Retrieval, load_embedder, longest, measure_retrieval
from training.evaluate.source import Source
from training.progress import track
from training.registry import DataDigest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Measurement:
    """A perplexity, and the data that it was taken on."""

    perplexity: Perplexity
    num_bytes: int
    """UTF-8 of what the assistant says, control tokens left out."""
    data: DataFile[Chat]

    @property
    def data_sha256(self) -> str:
        return self.data.sha256

    def digests(self, name: Path) -> list[DataDigest]:
        """Of the data, for a manifest whose recipe calls it so."""
        return self.data.digests(name, "heldout", range(len(self.data.items)))

    @property
    def bits_per_byte(self) -> float | None:
        """Comparable between models whose tokenizers differ; None where only control tokens were scored."""
        # All bits, not a mean over tokens: two tokenizers make different numbers of them.
        bits = math.log2(self.perplexity.value) * self.perplexity.tokens
        return bits / self.num_bytes if self.num_bytes else None


@dataclass(frozen=True)
class Retrieved:
    """How an embedder did, and the digest of the data that it was measured on."""

    measured: Retrieval
    data_sha256: str


def measure_source(source: Source, data: Path, max_tokens: int, show_progress: bool = True) -> Measurement:
    """Load the model and score every chat of the file; raises DataError or SourceError."""
    chats = read_chats(data)
    tokenizer = load_chat_tokenizer(source)
    with track("Encoding chats", show_progress) as progress:
        examples = encode_all(ChatEncoder(tokenizer, max_tokens), chats.items, progress)
    model = load_model(source).to("cuda" if torch.cuda.is_available() else "cpu")
    with track(f"Scoring {source.identity.ref}", show_progress) as progress:
        perplexity = measure_perplexity(model, examples, padding_token(tokenizer), progress)
    return Measurement(perplexity, _said_bytes(tokenizer, examples), chats)


def _said_bytes(tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example]) -> int:
    """The UTF-8 bytes of the text of those tokens that have a label."""
    rows = [[label for label in example.labels[1:] if label != IGNORED] for example in examples]
    texts = tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return sum(len(text.encode()) for text in texts)


def measure_classifier(
    source: Source, data: Path, max_tokens: int, predictions: Path | None = None, show_progress: bool = True
) -> Classified:
    """Load the classifier and name every text of the file; `predictions` gets a line for each.

    Raises DataError or SourceError.
    """
    model = load_classifier(source)
    labels = labels_of(model)
    file = read_labelled(data)
    has = truth(file.items, labels)
    limit = longest_text(model, max_tokens)
    tokenizer = load_tokenizer(source)
    with track(f"Scoring {source.identity.ref}", show_progress) as progress:
        probabilities_NC = probabilities(model, tokenizer, [text.text for text in file.items], limit, progress)
    assigned = decide(model, probabilities_NC)
    if predictions is not None:
        write_predictions(predictions, labels, probabilities_NC, assigned, model.config.problem_type == MULTI_LABEL)
    return Classified(judge(has, assigned), file.sha256)


def measure_embedder(source: Source, data: Path, max_tokens: int, show_progress: bool = True) -> Retrieved:
    """Load the embedder and look for each query's text among all texts of the file.

    Raises DataError or SourceError.
    """
    file = read_query_pairs(data)
    model = load_embedder(source).to("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = load_tokenizer(source)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    with track(f"Scoring {source.identity.ref}", show_progress) as progress:
        limit = longest(source, model, max_tokens)
        return Retrieved(measure_retrieval(model, tokenizer, file.items, limit, progress), file.sha256)
