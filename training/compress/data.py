"""What a checkpoint is calibrated on, and what is measured before and after: chats, plain texts, questions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.compress.questions import Questions, encode_questions, read_questions
from training.data import ChatEncoder, Example, encode_all, read_chats, split_heldout
from training.data.texts import holds_texts, read_texts, split_end, spread
from training.errors import DataError
from training.progress import track
from training.registry import Checkpoint, DataDigest

CALIBRATION = Path(__file__).with_name("calibration.jsonl")
"""Everyday chats, made for this purpose: what a general model is calibrated on."""

# The compressor looks at this many tokens at a time. Longer texts cost more and bring nothing measurable.
WINDOW_TOKENS = 256
# The part of the chats, chosen by their hashes, or of a text, its end, that is measured on and not calibrated on.
HELDOUT_FRACTION = 0.25
MAX_CHAT_TOKENS = 2048
# Plain text is scored in blocks of this many tokens, each without what stood before it.
BLOCK_TOKENS = 512

TASK = "task"
"""The name of the set that holds the questions' choices."""


@dataclass(frozen=True)
class DataSelection:
    """Which files are calibrated and measured on, and how much of them."""

    calibration: Path = CALIBRATION
    """JSONL chats or plain text; a part of it is held out."""
    samples: int = 64
    """Windows of calibration text at most, of 256 tokens each."""
    heldout: tuple[Path, ...] = ()
    """Further files to measure on."""
    heldout_tokens: int = 16_384
    """Of each plain text that is measured on, at most; taken from all over it."""
    task: Path | None = None
    """Multiple-choice questions."""


@dataclass(frozen=True)
class Data:
    """Encoded for one model."""

    windows: list[list[int]]
    sets: dict[str, list[Example]]
    """What perplexity is taken on. The first is the part of the calibration file that was held out."""
    questions: Questions | None
    digests: list[DataDigest]

    def for_worker(self) -> dict[str, list[dict[str, list[int]]]]:
        """Every set as the worker reads it; the choices of the questions are one more."""
        choices = {} if self.questions is None else {TASK: self.questions.examples}
        return {
            name: [{"input_ids": example.input_ids, "labels": example.labels} for example in examples]
            for name, examples in (self.sets | choices).items()
        }


def prepare(parent: Checkpoint, selection: DataSelection, show_progress: bool) -> Data:
    """Read and encode everything; raises DataError or SourceError before any work is done."""
    reader = _Reader(parent, selection.heldout_tokens, show_progress)
    windows, heldout, digests = reader.calibration(selection.calibration, selection.samples)
    sets = {_name(selection.calibration): heldout}
    for path in selection.heldout:
        name = _name(path)
        examples, digest = reader.heldout(path)
        # By content: a copy under another name is the same text.
        if digest.sha256 == digests[0].sha256:
            raise DataError(f"{path}: is the calibration file, and cannot be measured on as well")
        if name in sets or name == TASK:
            raise DataError(f"{path}: another set is called {name!r} already: rename the file")
        sets[name] = examples
        digests.append(digest)
    questions = None
    if selection.task is not None:
        file = read_questions(selection.task)
        questions = encode_questions(file, parent.path)
        digests.append(
            DataDigest(name=selection.task.name, sha256=file.sha256, rows=len(file.questions), role="evaluation")
        )
    return Data(windows, sets, questions, digests)


def _name(path: Path) -> str:
    return "chats" if path == CALIBRATION else path.stem


class _Reader:
    """Reads files for one model's tokenizer."""

    def __init__(self, parent: Checkpoint, most: int, show_progress: bool) -> None:
        self._parent = parent
        self._most = most
        self._show = show_progress
        config: dict[str, Any] = json.loads((parent.path / "config.json").read_bytes())
        self._block = min(BLOCK_TOKENS, config.get("max_position_embeddings") or BLOCK_TOKENS)

    def calibration(self, path: Path, samples: int) -> tuple[list[list[int]], list[Example], list[DataDigest]]:
        """Windows to calibrate on, what is held out of the same file, and the digests of both."""
        if holds_texts(path):
            file = read_texts(path)
            train, heldout = split_end(file.items, HELDOUT_FRACTION)
            ids = self._ids(train)
            windows, examples = spread(ids, WINDOW_TOKENS, samples) or [ids], self._blocks(heldout, path)
            sha256, rows = file.sha256, (len(train), len(heldout))
        else:
            chats = read_chats(path)
            calibrated, kept = split_heldout(chats.items, HELDOUT_FRACTION)
            encoder = self._encoder()
            with track("Encoding chats", self._show) as progress:
                examples = encode_all(encoder, kept, progress)
            windows = cut_windows(encode_all(encoder, calibrated), samples)
            sha256, rows = chats.sha256, (len(calibrated), len(kept))
        return windows, examples, [
            DataDigest(name=path.name, sha256=sha256, rows=rows[0], role="calibration"),
            DataDigest(name=path.name, sha256=sha256, rows=rows[1], role="heldout"),
        ]  # fmt: skip

    def heldout(self, path: Path) -> tuple[list[Example], DataDigest]:
        """All of a file of chats, or blocks from all over a text."""
        if holds_texts(path):
            file = read_texts(path)
            examples, rows, sha256 = self._blocks(file.items, path), len(file.items), file.sha256
        else:
            chats = read_chats(path)
            examples, rows, sha256 = encode_all(self._encoder(), chats.items), len(chats.items), chats.sha256
        return examples, DataDigest(name=path.name, sha256=sha256, rows=rows, role="evaluation")

    def _encoder(self) -> ChatEncoder:
        # transformers takes seconds to import, and a bad name or file should be told at once.
        from training.evaluate.loading import load_chat_tokenizer

        return ChatEncoder(load_chat_tokenizer(self._parent.path), MAX_CHAT_TOKENS)

    def _ids(self, documents: Sequence[str]) -> list[int]:
        from training.data.corpus import ExistingTokenizer, make_corpus

        with track("Encoding text", self._show) as progress:
            ids: list[int] = make_corpus(ExistingTokenizer(self._parent.path), documents, progress).tokens_T.tolist()
        return ids

    def _blocks(self, documents: Sequence[str], path: Path) -> list[Example]:
        ids = self._ids(documents)
        if len(ids) < 2:
            raise DataError(f"{path}: has too little text to measure on")
        blocks = spread(ids, self._block, max(1, self._most // self._block)) or [ids]
        return [Example(block, block, path.name) for block in blocks]


def cut_windows(examples: Sequence[Example], most: int) -> list[list[int]]:
    """The chats one after another, in windows of equal length; a shorter one only where it is all there is."""
    ids = [token for example in examples for token in example.input_ids]
    windows = [ids[start : start + WINDOW_TOKENS] for start in range(0, len(ids), WINDOW_TOKENS)]
    whole = [window for window in windows if len(window) == WINDOW_TOKENS]
    return (whole or windows)[:most]
