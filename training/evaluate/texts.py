"""How well a language model predicts plain text: perplexity of a token, and bits of a byte.

The text is read in blocks that do not overlap, so what stands at a block's beginning has little before it: a larger
block gives a better figure. Perplexity compares models with the same tokenizer; bits a byte any two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from training.data.corpus import ExistingTokenizer, make_corpus
from training.data.texts import read_texts
from training.errors import DataError
from training.evaluate.loading import load_model
from training.evaluate.perplexity import perplexity_of
from training.evaluate.source import Source
from training.progress import track

# Logits are held at once: 4,096 tokens x 50,000 entries x 4 bytes = 0.8 GB.
TOKENS_AT_ONCE = 4096


@dataclass(frozen=True)
class TextMeasurement:
    """What was measured, and the digest of the data that it was taken on."""

    loss: float
    """Nats a token."""
    bits_per_byte: float
    tokens: int
    block: int
    data_sha256: str

    def figures(self) -> dict[str, float]:
        return {
            "perplexity": perplexity_of(self.loss),
            "loss": self.loss,
            "bits_per_byte": self.bits_per_byte,
            "tokens": self.tokens,
            "block": self.block,
        }

    def __str__(self) -> str:
        return (
            f"perplexity {perplexity_of(self.loss):.3f} a token, {self.bits_per_byte:.3f} bits a byte, "
            f"over {self.tokens} tokens in blocks of {self.block}"
        )


def measure_texts(source: Source, data: Path, max_tokens: int, show_progress: bool = True) -> TextMeasurement:
    """Score every token of a file but the first, in blocks of `max_tokens` or what the model can read."""
    file = read_texts(data)
    with track("Encoding text", show_progress) as progress:
        corpus = make_corpus(ExistingTokenizer(source.path), file.items, progress)
    if corpus.num_targets < 1:
        raise DataError(f"{data}: is a single token, so there is nothing to predict")
    model: Any = load_model(source).to("cuda" if torch.cuda.is_available() else "cpu")
    block = min(max_tokens, getattr(model.config, "max_position_embeddings", None) or max_tokens)
    starts = range(0, corpus.num_targets, block)
    per_pass = max(1, TOKENS_AT_ONCE // block)
    total = 0.0
    with track(f"Scoring {source.identity.ref}", show_progress) as progress, torch.inference_mode():
        for at in range(0, len(starts), per_pass):
            rows = [corpus.tokens_T[start : start + block + 1] for start in starts[at : at + per_pass]]
            # The last block may be shorter, and is then a pass of its own.
            for width in dict.fromkeys(len(row) for row in rows):
                ids_BL = torch.stack([row for row in rows if len(row) == width]).to(model.device, torch.long)
                logits_BLV = model(input_ids=ids_BL[:, :-1], use_cache=False).logits
                total += cross_entropy(
                    logits_BLV.flatten(0, 1).float(), ids_BL[:, 1:].flatten(), reduction="sum"
                ).item()
            progress(min(at + per_pass, len(starts)), len(starts))
    loss = total / corpus.num_targets
    bits = total / math.log(2) / corpus.num_bytes
    return TextMeasurement(loss, bits, corpus.num_targets, block, file.sha256)
