"""Several models on several files: every model on every domain, and what each forgot of a general text.

A model gets the measure of its kind: classifiers macro F1 where they know the labels, embedders recall@1, language
models bits a byte of whatever text a file has. Forgetting is perplexity on a general text, before and after: of the
model that it was made from, and of itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import JsonValue

from training.data import ChatEncoder, Example, encode_all, read_chats
from training.data.corpus import ExistingTokenizer, make_corpus
from training.data.labelled import read_labelled
from training.data.pairs import read_query_pairs
from training.data.rows import read_rows
from training.data.sources import files_of
from training.data.texts import read_texts, spread
from training.errors import DataError, TrainingError, UnknownLabel
from training.evaluate.changes import SetChange
from training.evaluate.loading import load_chat_tokenizer, load_model, load_tokenizer, padding_token
from training.evaluate.measurement import measure_classifier, measure_embedder
from training.evaluate.perplexity import losses_of, perplexity_of
from training.evaluate.retrieval import is_embedder
from training.evaluate.scores import RESAMPLES, Score
from training.evaluate.source import Source
from training.progress import track
from training.registry import UnknownCheckpoint

Holds = Literal["labels", "pairs", "chats", "text"]

# Of plain text, spread over the file: two digits of the interval, in seconds a model.
MOST_TOKENS = 16_384


@dataclass(frozen=True)
class Cell:
    """One model on one file."""

    measure: str
    score: Score | None
    why: str = ""
    """There is no score."""

    def __str__(self) -> str:
        return f"{self.measure} {self.score}" if self.score is not None else f"– ({self.why})"

    def as_json(self) -> dict[str, JsonValue]:
        if self.score is None:
            return {"measure": None, "why": self.why}
        return {"measure": self.measure, **self.score.figures("value")}


@dataclass(frozen=True)
class Losses:
    """How a language model predicts each text of a file: a chat, or a block of plain text."""

    nats: Sequence[float]
    tokens: Sequence[int]
    num_bytes: int

    @property
    def perplexity(self) -> float:
        return perplexity_of(sum(self.nats) / sum(self.tokens))

    def bits_per_byte(self, seed: int = 0) -> Score:
        """With an interval by resampling texts."""
        nats, tokens = np.array(self.nats), np.array(self.tokens, dtype=np.float64)
        per_byte = tokens.sum() / self.num_bytes / math.log(2)
        often = np.random.default_rng(seed).multinomial(len(nats), [1 / len(nats)] * len(nats), size=RESAMPLES)
        drawn = (often @ nats) / np.maximum(often @ tokens, 1) * per_byte
        low, high = np.quantile(drawn, [0.025, 0.975])
        return Score(float(nats.sum() / tokens.sum() * per_byte), float(low), float(high))


@dataclass(frozen=True)
class Forgetting:
    """A general text, as the model predicts it and as the one did that it was made from."""

    base: str
    before: Losses
    after: Losses

    @property
    def ratio(self) -> Score | None:
        """Perplexity after ÷ before, paired by blocks; None where the tokenizers differ, and so do the blocks."""
        if list(self.before.tokens) != list(self.after.tokens) or self.before.num_bytes != self.after.num_bytes:
            return None
        return SetChange.of(self.before.nats, self.after.nats, self.after.tokens).ratio

    def __str__(self) -> str:
        ratio = self.ratio
        if ratio is None:
            before, after = self.before.bits_per_byte(), self.after.bits_per_byte()
            return f"bits a byte {before} → {after}, tokens differ from those of {self.base}"
        return f"perplexity {self.before.perplexity:.2f} → {self.after.perplexity:.2f}, × {ratio} of {self.base}"

    def as_json(self) -> dict[str, JsonValue]:
        ratio = self.ratio
        return {
            "base": self.base,
            "perplexity_before": self.before.perplexity,
            "perplexity_after": self.after.perplexity,
            "bits_per_byte_before": self.before.bits_per_byte().value,
            "bits_per_byte_after": self.after.bits_per_byte().value,
            **(ratio.figures("ratio") if ratio is not None else {"ratio": None}),
        }


@dataclass(frozen=True)
class Row:
    """One model."""

    source: Source
    cells: dict[str, Cell]
    general: Cell | None
    """Of the general text, where one was given."""
    forgot: Forgetting | None

    def as_json(self) -> dict[str, JsonValue]:
        row: dict[str, JsonValue] = {
            "ref": self.source.identity.ref,
            "digest": self.source.identity.digest,
            "data": {name: cell.as_json() for name, cell in self.cells.items()},
        }
        if self.general is not None:
            row["general"] = self.general.as_json()
            row["forgot"] = None if self.forgot is None else self.forgot.as_json()
        return row


class Matrix:
    """Measures models one after another."""

    def __init__(
        self,
        files: Mapping[str, Path],
        general: Path | None,
        max_tokens: int,
        find_model: Callable[[str], Source],
        show_progress: bool = True,
    ) -> None:
        self._files = {name: (path, what_it_holds(path)) for name, path in files.items()}
        self._general = None if general is None else (general, what_it_holds(general))
        self._max_tokens = max_tokens
        self._find_model = find_model
        self._show = show_progress
        self._losses: dict[tuple[str, Path], Losses] = {}
        """By a model's digest: what two rows need, as a base of both, is measured once."""

    def row(self, source: Source) -> Row:
        """Every file; what a model cannot be measured on says why. Raises DataError or SourceError."""
        if source.is_tokenizer or source.kind == "data":
            raise TrainingError(f"{source.identity.ref} is not a model: --matrix measures models")
        cells = {name: self._cell(source, path, holds) for name, (path, holds) in self._files.items()}
        if self._general is None:
            return Row(source, cells, None, None)
        return Row(source, cells, self._cell(source, *self._general), self._forgetting(source, *self._general))

    def _cell(self, source: Source, path: Path, holds: Holds) -> Cell:
        if source.kind == "classifier":
            return self._classified(source, path) if holds == "labels" else Cell("", None, "it names labels")
        if is_embedder(source):
            if holds != "pairs":
                return Cell("", None, "it finds texts of queries")
            recall = measure_embedder(source, path, self._max_tokens, self._show).measured
            return Cell("recall@1", recall.recall_at_1)
        return Cell("bits a byte", self._predicted(source, path, holds).bits_per_byte())

    def _classified(self, source: Source, path: Path) -> Cell:
        try:
            classified = measure_classifier(source, path, self._max_tokens, show_progress=self._show)
        except UnknownLabel:  # of another domain
            return Cell("", None, "other labels")
        return Cell("macro F1", classified.measured.macro_f1)

    def _forgetting(self, source: Source, path: Path, holds: Holds) -> Forgetting | None:
        """None where there is no base to compare with, or the model writes no text."""
        base = source.checkpoint.manifest.base if source.checkpoint is not None else None
        if base is None or source.kind == "classifier" or is_embedder(source):
            return None
        try:
            before = source.base or self._find_model(base.digest)
        except UnknownCheckpoint:
            return None
        return Forgetting(
            before.identity.ref, self._predicted(before, path, holds), self._predicted(source, path, holds)
        )

    def _predicted(self, source: Source, path: Path, holds: Holds) -> Losses:
        key = (source.identity.digest, path)
        if key not in self._losses:
            self._losses[key] = measure_losses(source, path, holds, self._max_tokens, self._show)
        return self._losses[key]


def what_it_holds(path: Path) -> Holds:
    """By its first row; raises DataError where it cannot be read."""
    try:
        first = files_of(path)[0]
        with first.open("rb") as file:
            row = next((row for _, row in read_rows(first, file)), None)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if row is None:
        raise DataError(f"{path}: holds no rows")
    if row.keys() & {"label", "labels"}:
        return "labels"
    if "query" in row:
        return "pairs"
    return "text" if "text" in row else "chats"


def measure_losses(source: Source, path: Path, holds: Holds, max_tokens: int, show_progress: bool = True) -> Losses:
    """Have a language model predict a file's texts, or in chats what the assistant says."""
    tokenizer = load_tokenizer(source)
    if holds == "chats":
        encoder = ChatEncoder(load_chat_tokenizer(source), max_tokens)
        with track("Encoding chats", show_progress) as progress:
            examples = encode_all(encoder, read_chats(path).items, progress)
        said = [[label for label in each.labels[1:] if label >= 0] for each in examples]
        texts = tokenizer.batch_decode(said, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        num_bytes = sum(len(text.encode()) for text in texts)
    else:
        examples, num_bytes = _blocks(source, path, _documents(path, holds), max_tokens)
    model: Any = load_model(source).to("cuda" if torch.cuda.is_available() else "cpu")
    with track(f"Scoring {source.identity.ref}", show_progress) as progress:
        nats = losses_of(model, examples, padding_token(tokenizer), progress)
    return Losses(nats, [example.num_targets for example in examples], max(1, num_bytes))


def _documents(path: Path, holds: Holds) -> Sequence[str]:
    if holds == "labels":
        return [text.text for text in read_labelled(path).items]
    if holds == "pairs":
        return [pair.text for pair in read_query_pairs(path).items]
    return read_texts(path).items


def _blocks(source: Source, path: Path, documents: Sequence[str], max_tokens: int) -> tuple[list[Example], int]:
    """Blocks from all over a text, and how many bytes those of its tokens have that are predicted, on average."""
    corpus = make_corpus(ExistingTokenizer(source.path), documents)
    if corpus.num_targets < 1:
        raise DataError(f"{path}: is a single token, so there is nothing to predict")
    config = json.loads(((source.base or source).path / "config.json").read_bytes())
    block = min(max_tokens, config.get("max_position_embeddings") or max_tokens)
    ids = corpus.tokens_T.tolist()
    rows = spread(ids, block, max(1, MOST_TOKENS // block)) or [ids]
    examples = [Example(row, row, path.name) for row in rows]
    targets = sum(example.num_targets for example in examples)
    return examples, round(corpus.num_bytes * targets / corpus.num_targets)


def as_table(rows: Sequence[Row]) -> str:
    """For a terminal, and for a page: Markdown's table, aligned."""
    names = list(rows[0].cells)
    has_general = rows[0].general is not None
    table = [["model", *names, *(["general", "forgot"] if has_general else [])]]
    for row in rows:
        cells = [row.source.identity.ref, *(str(row.cells[name]) for name in names)]
        if has_general:
            cells += [str(row.general), "–" if row.forgot is None else str(row.forgot)]
        table.append(cells)
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = []
    for line in table:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])
