"""The recipe of `distill`: a smaller model learns from a larger one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from training.recipes.classify import LabelledData
from training.recipes.sections import ChatData, FoldableAdapter, GradientRecipe, Section


class DistillData(ChatData, LabelledData):
    """Data to train the student on: chats, plain text, or labelled texts if the teacher is a classifier."""

    train: Path
    """Chats (JSONL), plain text, or labelled texts for a classifier; a file or a folder. Paths are relative to the
    recipe's folder."""
    heldout: Path | None = None
    """The same, never trained on. By default, part of `train` is held out."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of `train` to hold out if `heldout` is not set."""
    max_tokens: Annotated[int, Field(ge=8)] = 256
    """Chats and labelled texts are truncated to this many tokens; plain text is cut into blocks of this length."""
    allow_leaks: bool = False
    """Allow held-out labelled texts in `train`. The figures then say little."""


class StudentSettings(Section):
    """A student made from some of the teacher's layers."""

    layers: Annotated[int, Field(ge=1)]
    """Number of the teacher's layers to keep: the first, the last, and evenly spaced ones between."""
    vocabulary: Literal["whole", "used"] = "whole"
    """`used` keeps only tokens that occur in `data.train`, and single characters to spell other words with. For
    classifiers with a WordPiece tokenizer, whose embeddings are often more than half of their weights."""


class TeacherAnswers(Section):
    """The student learns from answers that the teacher writes, not from the data's (Kim and Rush 2016)."""

    max_tokens: Annotated[int, Field(ge=1)] = 128
    """Answers are truncated to this many tokens."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Answers that the teacher writes at once."""


class DistillRecipe(GradientRecipe):
    """A student learns to answer as its teacher does, token by token or label by label."""

    method: Literal["distill"]
    """The method, which determines the other settings."""
    teacher: str
    """A language model or a classifier: NAME[@VERSION] in the registry, a digest, or a folder's path."""
    student: str | StudentSettings
    """`{layers: N}` makes one from N of the teacher's layers. Or name a smaller model with the same tokenizer."""
    data: DistillData
    """Training data."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Weight of the cross-entropy on the data; the rest of the loss is the divergence from the teacher. 1 trains the
    same student without a teacher, for comparison."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    """Above 1, the student learns more from what the teacher considers unlikely (Hinton et al. 2015)."""
    answers: TeacherAnswers | None = None
    """`{max_tokens: N}` lets the teacher answer the last question of each chat in `data.train`, greedily. The student
    learns these answers and the teacher's probabilities of their tokens. For language models and chats."""
    adapter: FoldableAdapter | None = None
    """Trains an adapter instead of all of the student's weights, and merges it afterwards."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: what is held out must not be trained on")
        is_cut = isinstance(self.student, StudentSettings) and self.student.vocabulary == "used"
        if self.privacy is not None and is_cut:
            raise ValueError("privacy: student.vocabulary: used would reveal which tokens occur; set it to whole")
        return self
