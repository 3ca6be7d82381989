"""The perplexity of one model on one file of chats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from training.data import ChatEncoder, encode_all, read_chats
from training.evaluate.loading import load_model, load_tokenizer, padding_token
from training.evaluate.perplexity import Perplexity, measure_perplexity
from training.evaluate.source import Source
from training.progress import track


@dataclass(frozen=True)
class Measurement:
    """A perplexity, and the digest of the data that it was taken on."""

    perplexity: Perplexity
    data_sha256: str


def measure_source(source: Source, data: Path, max_tokens: int, show_progress: bool = True) -> Measurement:
    """Load the model and score every chat of the file; raises DataError or SourceError."""
    chats = read_chats(data)
    tokenizer = load_tokenizer(source.path)
    with track("Encoding chats", show_progress) as progress:
        examples = encode_all(ChatEncoder(tokenizer, max_tokens), chats.chats, progress)
    model = load_model(source).to("cuda" if torch.cuda.is_available() else "cpu")
    with track(f"Scoring {source.identity.ref}", show_progress) as progress:
        return Measurement(measure_perplexity(model, examples, padding_token(tokenizer), progress), chats.sha256)
