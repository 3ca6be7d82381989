"""The recipe of `distill`: a smaller model learns from a larger one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from training.recipes.classify import LabelledData
from training.recipes.sections import ChatData, FoldableAdapter, GradientRecipe, Section


class DistillData(ChatData, LabelledData):
    """What the student learns on: chats or plain text, or labelled texts where the teacher is a classifier."""

    train: Path
    """Chats (JSONL), plain text, or labelled texts for a classifier. Relative paths start at the recipe's folder."""
    heldout: Path | None = None
    """The same, never trained on; without it, a part of `train` is held out."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Which part of `train`, where `heldout` is not given."""
    max_tokens: Annotated[int, Field(ge=8)] = 256
    """Longer chats and labelled texts are cut here, and plain text is cut into blocks of so many."""
    allow_leaks: bool = False
    """Whether held-out labelled texts may stand in `train` too: then the figures say little."""


class StudentSettings(Section):
    """A student cut out of its teacher."""

    layers: Annotated[int, Field(ge=1)]
    """How many of the teacher's layers it keeps: the first, the last, and evenly spaced ones between."""
    vocabulary: Literal["whole", "used"] = "whole"
    """`used` keeps the tokens that occur in `data.train`, and single characters, which spell the others: for
    classifiers with a WordPiece tokenizer, whose embeddings are often more than half of them."""


class TeacherAnswers(Section):
    """Answers that the teacher writes, and the student learns from in place of the data's (Kim and Rush 2016)."""

    max_tokens: Annotated[int, Field(ge=1)] = 128
    """Longer answers are cut here."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """How many the teacher writes at once."""


class DistillRecipe(GradientRecipe):
    """A student learns to answer as its teacher does, token by token or label by label."""

    method: Literal["distill"]
    """What is done; the rest of the recipe depends on it."""
    teacher: str
    """A language model or a classifier: NAME[@VERSION] in the registry, a digest, or a folder's path."""
    student: str | StudentSettings
    """`{layers: N}` cuts one out of the teacher; or name a smaller model with the same tokenizer."""
    data: DistillData
    """What is learned on."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the data's own cross-entropy in the loss; the rest is the divergence from the teacher. At 1 the same
    student learns without a teacher, to compare with."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    """Above 1 more is learned of what the teacher holds unlikely (Hinton et al. 2015)."""
    answers: TeacherAnswers | None = None
    """`{max_tokens: N}` has the teacher answer the last question of each chat of `data.train`, greedily; the student
    learns those answers, and what the teacher holds likely at their tokens. For language models and chats."""
    adapter: FoldableAdapter | None = None
    """What is trained in place of all of the student's weights; it is folded into them afterwards."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: what is held out must not be trained on")
        is_cut = isinstance(self.student, StudentSettings) and self.student.vocabulary == "used"
        if self.privacy is not None and is_cut:
            raise ValueError("privacy: student.vocabulary: used would tell which tokens occur; set it to whole")
        return self
