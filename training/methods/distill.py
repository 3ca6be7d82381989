"""Distillation: a smaller model learns to answer as a larger one does, token by token or label by label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from training.data.labelled import LabelledText, read_labelled
from training.disk import work_folder
from training.errors import DataError, RecipeError, SourceError
from training.evaluate.classification import (
    MULTI_LABEL,
    decide,
    is_classifier,
    judge,
    labels_of,
    load_classifier,
    longest_text,
    probabilities,
    truth,
)
from training.evaluate.source import Source
from training.methods import adapters
from training.methods.classify import ClassifierRun, LabelObjective, padding_tokenizer
from training.methods.distillation import LabelDistillation
from training.methods.gradient_run import processes
from training.methods.labels import Data
from training.methods.student_run import StudentRun, parameters_of
from training.methods.students import write_student
from training.methods.trainer import Objective
from training.outcome import Context, Outcome
from training.progress import Track, track
from training.recipes.distill import DistillRecipe, StudentSettings
from training.registry.files import tokenizer_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Probabilities nearer to 0 or 1 say no more: their logits have no end.
_LEAST = 1e-12


def run(recipe: DistillRecipe, context: Context) -> Outcome:
    """Train and register; whatever interrupts it, nothing is registered half."""
    with processes() as accelerator:
        teacher = adapters.require_trainable(context.find_model(recipe.teacher))
        classifies = is_classifier(teacher)
        with _student(recipe, context, teacher, classifies) as student:
            if classifies:
                if recipe.answers is not None:
                    raise RecipeError(f"answers: {teacher.identity.ref} is a classifier, and writes none")
                return _LabelRun(recipe, context, accelerator, student, teacher).run()
            return StudentRun(recipe, context, accelerator, student, teacher, "merged").run()


class _LabelRun(ClassifierRun):
    """A student learns what a classifier says of texts, and what they are."""

    recipe: DistillRecipe

    def __init__(
        self, recipe: DistillRecipe, context: Context, accelerator: Accelerator, student: Source, teacher: Source
    ) -> None:
        parents = [teacher] if student.identity == teacher.identity else [teacher, student]
        super().__init__(recipe, context, accelerator, student, parents)
        self.teacher = teacher
        self.teacher_model = load_classifier(teacher).to(accelerator.device)

    def labels(self, texts: Sequence[LabelledText], is_multi_label: bool) -> list[str]:
        """The teacher's: the student answers in its place."""
        if (self.teacher_model.config.problem_type == MULTI_LABEL) is not is_multi_label:
            wanted = "labels" if not is_multi_label else "label"
            raise DataError(f"{self.recipe.data.train}: give each text its {wanted}, as the teacher was trained on")
        return labels_of(self.teacher_model)

    def objective(
        self, data: Data, rows: Sequence[list[int]], targets: torch.Tensor, tokenizer: PreTrainedTokenizerFast
    ) -> Objective:
        own = LabelObjective(rows, targets, tokenizer)
        # The data's labels alone: the teacher need not be asked.
        if self.recipe.alpha == 1:
            return own
        with track("Asking the teacher", self.show) as progress:
            probabilities_NC = self._said([text.text for text in data.train], progress)
        teacher_NC = _logits(probabilities_NC, data.is_multi_label).to(self.accelerator.device)
        return LabelDistillation(own, teacher_NC, self.recipe.alpha, self.recipe.temperature)

    def figures(self, model: Any, data: Data) -> dict[str, float]:
        """How the teacher does on the same texts, and how much smaller the student is."""
        probabilities_NC = self._said([text.text for text in data.heldout], None)
        measured = judge(truth(data.heldout, data.labels), decide(self.teacher_model, probabilities_NC))
        return {
            "teacher_accuracy": measured.accuracy.value,
            "teacher_macro_f1": measured.macro_f1.value,
            "parameters": parameters_of(model),
            "teacher_parameters": parameters_of(self.teacher_model),
        }

    def _said(self, texts: Sequence[str], progress: Track | None) -> NDArray[np.float64]:
        """The teacher's probabilities."""
        limit = longest_text(self.teacher_model, self.recipe.data.max_tokens)
        return probabilities(self.teacher_model, padding_tokenizer(self.teacher), texts, limit, progress)


def _logits(probabilities_NC: NDArray[np.float64], is_multi_label: bool) -> torch.Tensor:
    likely = torch.from_numpy(probabilities_NC).clamp(_LEAST, 1 - _LEAST)
    return (likely.logit() if is_multi_label else likely.log()).float()


@contextmanager
def _student(recipe: DistillRecipe, context: Context, teacher: Source, classifies: bool) -> Iterator[Source]:
    """The student before it learns: a model that the recipe names, or one cut out of the teacher."""
    if isinstance(recipe.student, StudentSettings):
        texts = [text.text for text in read_labelled(context.path(recipe.data.train)).items] if classifies else []
        with work_folder(context.home) as folder:
            write_student(teacher, recipe.student, texts, folder)
            yield Source(folder, teacher.identity, teacher.checkpoint)
        return
    student = adapters.require_trainable(context.find_model(recipe.student))
    # Language models are compared token by token, so their tokens must be the same.
    if not classifies and tokenizer_digest(student.path) != tokenizer_digest(teacher.path):
        raise SourceError(
            f"{student.identity.ref} and {teacher.identity.ref} have different tokenizers: their tokens differ"
        )
    yield student
