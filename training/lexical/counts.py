"""The tokens of texts, counted and weighted: TF-IDF (Spärck Jones 1972), with logarithms of the counts.

A token that a text has n times weighs (1 + ln n) · idf there, and the weights of a text have the length 1 together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import embedding_bag


@dataclass(frozen=True)
class WeightedTokens:
    """The different tokens of each text, one text's after the other's."""

    tokens: torch.Tensor
    """Token ids, ascending within a text."""
    weights: torch.Tensor
    sizes: torch.Tensor
    """How many different tokens each text has."""

    def scores(self, table_VC: torch.Tensor) -> torch.Tensor:
        """The weighted sum of the table's rows for each text, (texts, columns)."""
        starts = self.sizes.cumsum(0) - self.sizes
        weights = self.weights.to(table_VC.dtype)
        return embedding_bag(self.tokens, table_VC, starts, mode="sum", per_sample_weights=weights)

    def among(self, chosen: torch.Tensor) -> WeightedTokens:
        """Those of the texts that a mask chooses."""
        kept = chosen.repeat_interleave(self.sizes)
        return WeightedTokens(self.tokens[kept], self.weights[kept], self.sizes[chosen])


def weigh(ids: torch.Tensor, rows: torch.Tensor, texts: int, idf_V: torch.Tensor) -> WeightedTokens:
    """Count the tokens `ids` of so many texts; `rows` says which text each is of. What has no idf weighs nothing."""
    vocabulary = len(idf_V)
    keys, counts = (rows * vocabulary + ids).unique(return_counts=True)
    rows, tokens = keys // vocabulary, keys % vocabulary
    weights = (1 + counts.log()) * idf_V[tokens]
    squares = torch.zeros(texts, dtype=weights.dtype, device=ids.device).index_add_(0, rows, weights.square())
    weights = weights / squares.sqrt().clamp_min(1e-12)[rows]
    return WeightedTokens(tokens, weights, torch.bincount(rows, minlength=texts))


def weigh_texts(texts: Sequence[Sequence[int]], idf_V: torch.Tensor) -> WeightedTokens:
    """Count the tokens of texts of any length."""
    sizes = torch.tensor([len(text) for text in texts])
    ids = torch.tensor([token for text in texts for token in text])
    return weigh(ids, torch.arange(len(texts)).repeat_interleave(sizes), len(texts), idf_V)


def inverse_document_frequency(texts: Sequence[Sequence[int]], vocabulary: int) -> torch.Tensor:
    """How telling each token is, (vocabulary): ln((1 + texts) / (1 + texts with it)) + 1, and 0 for what none has."""
    found_V = torch.zeros(vocabulary)
    for text in texts:
        found_V[list(set(text))] += 1
    return torch.where(found_V > 0, ((1 + len(texts)) / (1 + found_V)).log() + 1, 0.0)


class LexicalPart(nn.Module):
    """What each token of a text says for each label; it is added to what the encoder's head says."""

    idf: torch.Tensor

    def __init__(self, vocabulary: int, labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(vocabulary, labels))
        self.register_buffer("idf", torch.zeros(vocabulary))

    def forward(self, ids: torch.Tensor, rows: torch.Tensor, texts: int) -> torch.Tensor:
        """The logits of so many texts, (texts, labels), from all their tokens and which text each is of."""
        return weigh(ids, rows, texts, self.idf.float()).scores(self.weight.float())
