"""How well an embedder finds texts: recall@1 and the mean reciprocal rank, each with an interval.

An embedder is a model whose last hidden states are averaged over a text's tokens and scaled to length 1; it is saved
with the files by which sentence-transformers and vLLM know so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch.nn.functional import normalize
from transformers import AutoModel

from training.data.pairs import QueryPair
from training.errors import SourceError
from training.evaluate.classification import pad
from training.evaluate.scores import Score, mean_score
from training.evaluate.source import Source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BATCH_SIZE = 32

_MODULES = "modules.json"
_LENGTH = "sentence_bert_config.json"
_POOLING = "1_Pooling"


@dataclass(frozen=True)
class Retrieval:
    """How an embedder found each query's text among all texts."""

    recall_at_1: Score
    mrr: Score
    queries: int
    texts: int
    """Different ones, to choose from."""

    def __str__(self) -> str:
        return f"recall@1 {self.recall_at_1}, MRR {self.mrr} for {self.queries} queries among {self.texts} texts"

    def figures(self) -> dict[str, float]:
        """As manifests and `--json` write them."""
        return {
            **self.recall_at_1.figures("recall_at_1"),
            **self.mrr.figures("mrr"),
            "queries": self.queries,
            "texts": self.texts,
        }


def is_embedder(source: Source) -> bool:
    """Whether vectors are what the model is for."""
    return source.kind == "embedder" or (source.checkpoint is None and (source.path / _MODULES).exists())


def load_embedder(source: Source) -> Any:
    """Load the model in fp32; raises SourceError, one line."""
    try:
        return AutoModel.from_pretrained(source.path, dtype=torch.float32, local_files_only=True).eval()
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(f"{source.identity.ref} cannot be loaded: {why}") from None


def mean_pooled(model: Any, rows: Sequence[list[int]], tokenizer: PreTrainedTokenizerFast, device: Any) -> torch.Tensor:
    """Unit vectors of tokenized texts, (texts, width), in fp32."""
    inputs = pad(rows, tokenizer, device)
    hidden_BLH = model(**inputs).last_hidden_state.float()
    mask_BL1 = inputs["attention_mask"].unsqueeze(-1).float()
    return normalize((hidden_BLH * mask_BL1).sum(1) / mask_BL1.sum(1), dim=-1)


def embed(
    model: Any,
    rows: Sequence[list[int]],
    tokenizer: PreTrainedTokenizerFast,
    on_progress: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Unit vectors of tokenized texts in their order, (texts, width), on the CPU."""
    # Similar lengths together, so that little of a batch is padding.
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    by_index: dict[int, torch.Tensor] = {}
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), BATCH_SIZE):
            part = order[start : start + BATCH_SIZE]
            vectors = mean_pooled(model, [rows[index] for index in part], tokenizer, model.device).cpu()
            by_index |= dict(zip(part, vectors, strict=True))
            if on_progress is not None:
                on_progress(start + len(part), len(order))
    model.train(was_training)
    return torch.stack([by_index[index] for index in range(len(rows))])


def measure_retrieval(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[QueryPair],
    max_tokens: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Retrieval:
    """Look for each query's text among all texts; where a query has several, the best placed one counts."""
    # Each once: a text that answers several queries would otherwise compete with itself.
    queries = list(dict.fromkeys(pair.query for pair in pairs))
    texts = list(dict.fromkeys(pair.text for pair in pairs))
    rows = [tokenizer(text, truncation=True, max_length=max_tokens)["input_ids"] for text in [*queries, *texts]]
    vectors = embed(model, rows, tokenizer, on_progress)
    places = {text: place for place, text in enumerate(texts)}
    right: dict[str, list[int]] = {}
    for pair in pairs:
        right.setdefault(pair.query, []).append(places[pair.text])
    ranks = _ranks(vectors[: len(queries)], vectors[len(queries) :], [right[query] for query in queries])
    return Retrieval(
        mean_score((ranks == 1).astype(np.float64)), mean_score(1 / ranks), queries=len(queries), texts=len(texts)
    )


def save_pooling(folder: Path, width: int, max_tokens: int) -> None:
    """Write what sentence-transformers and vLLM read: mean pooling, unit length, and where texts are cut."""
    kinds = (("0", "", "Transformer"), ("1", _POOLING, "Pooling"), ("2", "2_Normalize", "Normalize"))
    modules = [
        {"idx": index, "name": name, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (name, path, kind) in enumerate(kinds)
    ]
    modes = {f"pooling_mode_{mode}": mode == "mean_tokens" for mode in ("cls_token", "mean_tokens", "max_tokens")}
    (folder / _POOLING).mkdir()
    _write(folder / _MODULES, modules)
    _write(folder / _POOLING / "config.json", {"word_embedding_dimension": width, **modes})
    _write(folder / _LENGTH, {"max_seq_length": max_tokens, "do_lower_case": False})
    _write(folder / "config_sentence_transformers.json", {"prompts": {}, "similarity_fn_name": "cosine"})


def longest(source: Source, model: Any, asked: int) -> int:
    """Tokens after which texts are cut: as asked, but no more than the model was saved with or has positions for."""
    most = min(asked, getattr(model.config, "max_position_embeddings", asked))
    saved = source.path / _LENGTH
    return min(most, json.loads(saved.read_bytes())["max_seq_length"]) if saved.exists() else most


def _ranks(queries: torch.Tensor, texts: torch.Tensor, right: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Of each query: the place of its best text among those that are wrong; equal similarity counts against it."""
    ranks = np.zeros(len(queries), dtype=np.int64)
    for index, query in enumerate(queries):
        similarities = texts @ query
        best = similarities[list(right[index])].max()
        similarities[list(right[index])] = -torch.inf
        ranks[index] = 1 + int((similarities >= best).sum())
    return ranks


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
