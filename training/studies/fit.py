"""What several studies share: text to learn from, models to train on it, and how well they predict the rest."""

from __future__ import annotations

import math
import pydoc_data.topics
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from training.data.corpus import Characters, Corpus, make_corpus, require_blocks
from training.data.texts import read_texts, split_end
from training.methods.pretrain import BlockObjective, summed_loss
from training.methods.run_folder import RunFolder
from training.methods.trainer import Objective, Trainer
from training.model.config import ModelConfig
from training.model.decoder import Decoder
from training.recipes.sections import GradientRecipe, OptimizerSettings, Precision, ScheduleSettings
from training.studies.study import Trial

BLOCK = 64
LONGEST_BLOCK = 512
"""That any study measures with."""
# As `model.balance` of recipes.
BALANCE = 0.01
# Of each kind of text.
CHARACTERS = 1_000_000
SMALLEST_CHARACTERS = 40_000


@dataclass(frozen=True)
class Text:
    """Of one kind: what is learned from, and its end, which is not."""

    train: Corpus
    heldout: Corpus


@dataclass(frozen=True)
class Texts:
    """Two kinds of text in one vocabulary of characters."""

    code: Text
    """Source of Python's standard library, or the text that the user gave."""
    prose: Text
    """Its manual, as `help()` shows it."""
    vocab_size: int


def texts(trial: Trial) -> Texts:
    """The texts of a trial; the same for every seed, which draws weights and the order of examples."""
    return _texts(trial.pick(CHARACTERS, SMALLEST_CHARACTERS), trial.text)


@lru_cache(maxsize=2)
def _texts(characters: int, path: Path | None) -> Texts:
    code = _standard_library(characters) if path is None else "\n".join(read_texts(path).items)[:characters]
    prose = _ascii("\n".join(pydoc_data.topics.topics.values()))[:characters]
    vocabulary = Characters([code, prose])

    def text(content: str) -> Text:
        train, heldout = (make_corpus(vocabulary, part) for part in split_end([content], 0.1))
        if path is not None:
            require_blocks(heldout, LONGEST_BLOCK, path, "hold out")
        return Text(train, heldout)

    return Texts(text(code), text(prose), vocabulary.encoder.get_vocab_size(with_added_tokens=True))


def _standard_library(characters: int) -> str:
    text = ""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        # ASCII alone: a vocabulary of some hundred characters, which each occur often enough to be learned.
        text += _ascii(path.read_text(errors="replace"))
        if len(text) >= characters:
            break
    return text[:characters]


def _ascii(text: str) -> str:
    return text.encode("ascii", "ignore").decode()


def decoder(trial: Trial, vocab_size: int, **shape: Any) -> Decoder:
    """A small decoder with the seed's weights; by default two blocks 64 wide, with two heads."""
    # Before the weights are drawn, so that models of one seed and shape begin the same.
    torch.manual_seed(trial.seed)
    width = shape.get("width", 64)
    small = {"layers": 2, "width": width, "heads": 2, "hidden": 8 * round(width / 3), "context": BLOCK}
    small["kv_heads"] = shape.get("heads", small["heads"])
    return Decoder(ModelConfig(vocab_size=vocab_size, **{**small, **shape}))


def fit(
    model: nn.Module,
    objective: Objective,
    trial: Trial,
    *,
    steps: int,
    batch_size: int = 8,
    micro_batch_size: int | None = None,
    learning_rate: float = 3e-3,
    clip_norm: float = 1.0,
    precision: Precision = "fp32",
    after_step: Callable[[int], None] | None = None,
) -> list[float]:
    """Train with the loop of `signet train`, and return each step's loss. Nothing is kept but the model."""
    recipe = GradientRecipe(
        method="study",
        name="study",
        seed=trial.seed,
        steps=steps,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size or batch_size,
        optimizer=OptimizerSettings(learning_rate=learning_rate, betas=(0.9, 0.99), clip_norm=clip_norm),
        schedule=ScheduleSettings(warmup_fraction=0.1),
        precision=precision,
    )
    with tempfile.TemporaryDirectory(prefix="signet-study-") as folder:
        trainer = Trainer(recipe, Accelerator(cpu=True), RunFolder(Path(folder), {}), model, objective)
        return trainer.train(show=False, after_step=after_step).losses


def fit_text(model: nn.Module, text: Text, trial: Trial, *, steps: int, block: int = BLOCK, **how: Any) -> list[float]:
    """Train to predict the next character; an uneven load of experts counts a hundredth."""
    return fit(model, BlockObjective(text.train, block, BALANCE, torch.device("cpu")), trial, steps=steps, **how)


def heldout_loss(model: nn.Module, text: Text, block: int = BLOCK, tokens: int = 32_768) -> float:
    """Nats a character, over about so many, in blocks that are spread evenly over what was held out."""
    corpus = text.heldout
    most = max(1, min(corpus.num_blocks(block), tokens // block))
    starts = [index * corpus.num_blocks(block) // most * block for index in range(most)]
    was_training = model.training
    model.eval()
    total = 0.0
    per_pass = max(1, 4096 // block)
    with torch.inference_mode():
        for at in range(0, len(starts), per_pass):
            rows = [corpus.tokens_T[start : start + block + 1] for start in starts[at : at + per_pass]]
            total += summed_loss(model, torch.stack(rows).long()).item()
    model.train(was_training)
    loss = total / (len(starts) * block)
    assert math.isfinite(loss)  # the loop ends a run whose loss is not
    return loss


def count_weights(model: nn.Module, only_trained: bool = False) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad or not only_trained)
