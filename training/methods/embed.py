"""Embedders: a model learns by contrast to give a query and the text that answers it similar vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.functional import cross_entropy

from training.data.pairs import QueryPair, read_query_pairs
from training.data.split import check_groups_apart, split_by_group
from training.evaluate.loading import load_tokenizer, stored_dtype
from training.evaluate.retrieval import (
    Retrieval,
    embed,
    load_embedder,
    mean_pooled,
    measure_retrieval,
    save_pooling,
)
from training.methods import adapters, agreement
from training.methods.gradient_run import GradientRun, processes
from training.methods.run_folder import RunFolder
from training.methods.split_data import SplitData, read_split
from training.methods.trainer import Training
from training.outcome import Context, Outcome, Stopwatch
from training.progress import track
from training.recipes.embed import EmbedRecipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Compared before and after merging and writing.
_PROBES = 16


def run(recipe: EmbedRecipe, context: Context) -> Outcome:
    """Train and register; whatever interrupts it, nothing is registered half."""
    with processes() as accelerator:
        return _Run(recipe, context, accelerator).run()


def contrastive_loss(
    queries: torch.Tensor, texts: torch.Tensor, is_other: torch.Tensor, temperature: float
) -> torch.Tensor:
    """InfoNCE of each query: -log of its own text's share among all texts that `is_other` lets compete.

    `queries` and `texts` are (pairs, width); `is_other` is (pairs, pairs), with its diagonal true.
    """
    similarities = (queries @ texts.T / temperature).masked_fill(~is_other, -torch.inf)
    return cross_entropy(similarities, torch.arange(len(queries), device=queries.device), reduction="none")


class ContrastObjective:
    """InfoNCE over whole batches, computed in micro-batches with cached gradients (Gao et al. 2021, GradCache).

    Each query competes with all texts of its batch, so no part of a batch has a loss of its own. `prepare` computes
    all vectors without gradients, and the loss's gradient by each vector; `loss` then computes the vectors of a part
    once more and hands those gradients on. The sum over all parts is the whole batch's gradient.
    """

    def __init__(
        self,
        pairs: Sequence[QueryPair],
        tokenizer: PreTrainedTokenizerFast,
        max_tokens: int,
        temperature: float,
        device: torch.device,
    ) -> None:
        def encode(text: str) -> list[int]:
            rows: list[int] = tokenizer(text, truncation=True, max_length=max_tokens)["input_ids"]
            return rows

        self._pairs = pairs
        self._tokenizer = tokenizer
        self._temperature = temperature
        self._device = device
        self._queries = [encode(pair.query) for pair in pairs]
        self._texts = [encode(pair.text) for pair in pairs]
        self.lengths = [max(len(a), len(b)) for a, b in zip(self._queries, self._texts, strict=True)]
        self.tokens = sum(map(len, self._queries)) + sum(map(len, self._texts))
        self._gradients: dict[int, torch.Tensor] = {}
        self._losses: dict[int, torch.Tensor] = {}

    def weight(self, indices: Sequence[int]) -> int:
        """Pairs."""
        return len(indices)

    def prepare(self, model: nn.Module, indices: Sequence[int], micro_batch_size: int) -> None:
        """Compute the gradients by the vectors of a whole batch."""
        with torch.no_grad():
            parts = [indices[start : start + micro_batch_size] for start in range(0, len(indices), micro_batch_size)]
            vectors = torch.cat([self._vectors(model, part) for part in parts])
        vectors.requires_grad_()
        is_other = torch.tensor([[a == b or self._competes(a, b) for b in indices] for a in indices])
        losses = contrastive_loss(vectors[:, 0], vectors[:, 1], is_other.to(self._device), self._temperature)
        (gradients,) = torch.autograd.grad(losses.sum(), vectors)
        self._gradients = dict(zip(indices, gradients, strict=True))
        self._losses = dict(zip(indices, losses.detach(), strict=True))

    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        """In nats. Its value is these pairs' part of the loss, its gradient that of the whole batch through them."""
        vectors = self._vectors(model, indices)
        handed_on = (vectors * torch.stack([self._gradients[index] for index in indices])).sum()
        value = torch.stack([self._losses[index] for index in indices]).sum()
        # The bracket has no gradient: it sets the value right that the loop reports.
        return handed_on + (value - handed_on.detach())

    def _vectors(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        """(pairs, 2, width), the query first; all in one pass."""
        rows = [self._queries[index] for index in indices] + [self._texts[index] for index in indices]
        queries, texts = mean_pooled(model, rows, self._tokenizer, self._device).split(len(indices))
        return torch.stack((queries, texts), 1)

    def _competes(self, query: int, text: int) -> bool:
        """A text is no wrong answer where it, or the query, is the same as the query's own."""
        a, b = self._pairs[query], self._pairs[text]
        return a.text != b.text and a.query != b.query


_Data = SplitData[QueryPair]


class _Run(GradientRun[EmbedRecipe]):
    """`run()` reads top to bottom as what happens."""

    example = "pair"

    def __init__(self, recipe: EmbedRecipe, context: Context, accelerator: Accelerator) -> None:
        super().__init__(recipe, context, accelerator)
        self.base = adapters.require_trainable(context.find_model(recipe.base))
        self.tokenizer = load_tokenizer(self.base)
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def run(self) -> Outcome:
        watch = self.start()
        data = self._read_data()
        with self.folder(data.digests, self.base) as folder:
            return self._run(data, folder, watch)

    def _run(self, data: _Data, folder: RunFolder, watch: Stopwatch) -> Outcome:
        model: Any = load_embedder(self.base).to(self.accelerator.device)
        limit = min(self.recipe.data.max_tokens, model.config.max_position_embeddings)
        before = self._measure(model, data.heldout, limit, "Measuring retrieval before")
        objective = ContrastObjective(
            data.train, self.tokenizer, limit, self.recipe.temperature, self.accelerator.device
        )
        with _without_unused_parts(model):
            trained_model = model
            if self.recipe.adapter is not None:
                trained_model = adapters.attach(model, self.recipe.adapter, task="FEATURE_EXTRACTION")
            trained = self.trainer(folder, trained_model, objective).train(self.show)
            dtype = stored_dtype(self.base)
            # Folds into `model` itself, which the adapter was put on.
            agreement.merge(trained_model, dtype, lambda model: self._probe(model, data, limit))
        after = self._measure(model, data.heldout, limit, "Measuring retrieval after")
        return self._register(model, dtype, limit, data, before, after, trained, objective, watch)

    def _read_data(self) -> _Data:
        apart = partial(check_groups_apart, what="query or group")
        return read_split(self.recipe.data, self.context, read_query_pairs, split_by_group, apart)

    def _measure(self, model: Any, pairs: Sequence[QueryPair], limit: int, label: str) -> Retrieval:
        with track(label, self.show) as progress:
            return measure_retrieval(model, self.tokenizer, pairs, limit, progress)

    def _probe(self, model: Any, data: _Data, limit: int) -> torch.Tensor:
        """Vectors of the first held-out texts."""
        texts = [pair.text for pair in data.heldout[:_PROBES]]
        rows = [self.tokenizer(text, truncation=True, max_length=limit)["input_ids"] for text in texts]
        return embed(model, rows, self.tokenizer)

    def _register(
        self,
        model: Any,
        dtype: torch.dtype,
        limit: int,
        data: _Data,
        before: Retrieval,
        after: Retrieval,
        trained: Training,
        objective: ContrastObjective,
        watch: Stopwatch,
    ) -> Outcome:
        def write(target: Path) -> None:
            expected = self._probe(model, data, limit)
            model.to(dtype).save_pretrained(target)
            adapters.copy_companions(self.base.path, target)
            save_pooling(target, model.config.hidden_size, limit)
            outputs = self._probe(load_embedder(agreement.written(target)), data, limit)
            agreement.require_files(expected, outputs)

        figures = {**after.figures(), "recall_at_1_before": before.recall_at_1.value, "mrr_before": before.mrr.value}
        checkpoint = self.register(
            write, kind="embedder", base=self.base, data=data.digests, evaluation={**figures, **trained.figures()}
        )
        notes = [
            f"Before, recall@1 was {before.recall_at_1} and MRR {before.mrr}.",
            *([f"Serve it:   signet engine --model {checkpoint.ref} --runner pooling"] if checkpoint else []),
        ]
        return Outcome(
            checkpoint=checkpoint,
            summary=str(after),
            cost=watch.cost(round(trained.weight / len(data.train) * objective.tokens)),
            notes=notes,
            report={**figures, "losses": list(trained.losses)},
        )


@contextmanager
def _without_unused_parts(model: Any) -> Iterator[None]:
    """Take BERT's pooler away, which mean pooling does not use, and switch dropout off.

    Unused weights have no gradients, for which several processes would wait. Vectors are computed twice and must be
    the same.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    pooler = getattr(model, "pooler", None)
    if pooler is None:
        yield
        return
    model.pooler = None
    try:
        yield
    finally:
        model.pooler = pooler
