"""One run in which a smaller language model learns from a larger one: a student, or what pruning left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from training.data import Example
from training.evaluate.loading import load_model, load_tokenizer, padding_token, stored_dtype
from training.evaluate.perplexity import Perplexity, perplexity_of
from training.evaluate.source import Source
from training.methods import adapters, agreement
from training.methods.answers import write_answers
from training.methods.distillation import TokenDistillation
from training.methods.examples import Examples, measure_shared, read_examples
from training.methods.gradient_run import GradientRun
from training.methods.run_folder import RunFolder
from training.methods.trainer import Training
from training.methods.vocabulary import scored_bytes
from training.outcome import Context, Outcome, Stopwatch, next_steps
from training.progress import track
from training.recipes.distill import DistillRecipe
from training.recipes.prune import PruneRecipe
from training.registry import DataDigest, Kind


@dataclass(frozen=True)
class OriginalTeacher:
    """The figures of a teacher before it lost a part of its vocabulary."""

    perplexity: Perplexity
    """Of the held-out data, in its own tokens."""
    bytes: int
    """That those tokens hold."""
    parameters: int
    data: Sequence[DataDigest]
    """The recipe's, and what the tokens were chosen by."""

    def in_its_tokens(self, measured: Perplexity, scored: int) -> Perplexity:
        """What another tokenizer's perplexity, over so many bytes, is for each token of the original's.

        Fewer tokens a byte are harder ones: without it a model with a poorer vocabulary would seem the better one.
        """
        nats_per_byte = math.log(measured.value) * measured.tokens / scored
        value = perplexity_of(nats_per_byte * self.bytes / self.perplexity.tokens)
        return Perplexity(value, self.perplexity.tokens, measured.chats)


class StudentRun(GradientRun[DistillRecipe | PruneRecipe]):
    """`run()` reads top to bottom as what happens."""

    def __init__(
        self,
        recipe: DistillRecipe | PruneRecipe,
        context: Context,
        accelerator: Accelerator,
        student: Source,
        teacher: Source,
        kind: Kind,
        original: OriginalTeacher | None = None,
    ) -> None:
        super().__init__(recipe, context, accelerator)
        self.student = student
        self.teacher = teacher
        self.kind = kind
        self.original = original
        self.parents = [teacher] if student.identity == teacher.identity else [teacher, student]
        self.pad_token_id = padding_token(load_tokenizer(student))

    def run(self) -> Outcome:
        watch = self.start()
        data = read_examples(self.recipe.data, self.context, self.student, self.show)
        if self.original is not None:
            data = replace(data, digests=list(self.original.data))
        with self.folder(data.digests, self.student, self.teacher) as folder:
            return self._run(data, folder, watch)

    def _run(self, data: Examples, folder: RunFolder, watch: Stopwatch) -> Outcome:
        teacher: Any = load_model(self.teacher, torch.float32).to(self.accelerator.device)
        best, whole = self._whole(teacher, data.heldout)
        model: Any = load_model(self.student, torch.float32).to(self.accelerator.device)
        before = self._measure(model, data.heldout, "Held-out perplexity before")
        cut = parameters_of(model)
        names = ("teacher_parameters", "teacher_perplexity", "perplexity_before")
        if self.kind == "pruned":
            names = ("parameters_before", "perplexity_before", "perplexity_pruned")
        figures = {"parameters": float(cut), **dict(zip(names, (whole, best.value, before.value), strict=True))}
        if isinstance(self.recipe, DistillRecipe) and self.recipe.answers is not None:
            # Only what is learned from: the held-out answers stay the data's own, for all runs to be compared by.
            with track("Asking the teacher", self.show) as progress:
                written = write_answers(teacher, data.train, self.recipe.answers, self.pad_token_id, progress)
            data = replace(data, train=written.examples)
            figures |= {"answers_ended": float(written.ended), "answer_tokens": float(written.tokens)}
        # A recipe of no steps registers the student as it was cut.
        trained = Training([], 0, 0.0)
        if self.recipe.num_steps(len(data.train)):
            trained, model = self._train(model, teacher, data, folder)
            figures |= trained.figures()
        dtype = stored_dtype(self.student)
        outputs = agreement.chat_outputs(data.heldout, self.pad_token_id)
        # Without an adapter this only rounds, so that what is measured next is what is stored.
        model = agreement.merge(model, dtype, outputs)
        after = self._measure(model, data.heldout, "Held-out perplexity after")
        figures |= {"perplexity_after": after.value, "heldout_tokens": after.tokens}

        def write(target: Path) -> None:
            agreement.write(model, self.student, "merged", dtype, outputs, target)

        checkpoint = self.register(
            write,
            kind=self.kind,
            base=self.student,
            parents=self.parents,
            data=data.digests,
            evaluation=figures,
        )
        learned = f"{before.value:.2f} before and {after.value:.2f} after {len(trained.losses)} steps"
        return Outcome(
            checkpoint=checkpoint,
            summary=f"{cut / 1e6:.4g} million parameters, {cut / whole:.0%} of {self.teacher.identity.ref}; "
            f"perplexity of {after.tokens:,} held-out tokens: {best.value:.2f} for the larger model, {learned}",
            cost=watch.cost(trained.weight),
            notes=[*trained.notes(), *next_steps(checkpoint)] if checkpoint else [],
            report={**figures, "losses": list(trained.losses)},
        )

    def _train(self, model: Any, teacher: nn.Module, data: Examples, folder: RunFolder) -> tuple[Training, Any]:
        if self.recipe.adapter is not None:
            adapters.untie_for(model, self.recipe.adapter, "merged")
            model = adapters.attach(model, self.recipe.adapter)
        objective = TokenDistillation(
            data.train, self.pad_token_id, teacher, self.recipe.alpha, self.recipe.temperature
        )
        # Trials are compared by the loss on the data alone (alpha 1), which needs no pass of the teacher.
        heldout = TokenDistillation(data.heldout, self.pad_token_id, teacher, 1.0, self.recipe.temperature)
        return self.trainer(folder, model, objective, heldout).train(self.show), model

    def _whole(self, teacher: nn.Module, heldout: Sequence[Example]) -> tuple[Perplexity, int]:
        """How well the larger model does, and how many parameters it has."""
        if self.original is not None:
            return self.original.perplexity, self.original.parameters
        return self._measure(teacher, heldout, "Held-out perplexity of the larger model"), parameters_of(teacher)

    def _measure(self, model: Any, examples: Sequence[Example], label: str) -> Perplexity:
        measured = measure_shared(self.accelerator, model, examples, self.pad_token_id, label, self.show)
        if self.original is None:
            return measured
        return self.original.in_its_tokens(measured, scored_bytes(self.student.path, examples))


def parameters_of(model: nn.Module) -> int:
    """Weights; what input and output share counts once."""
    return sum(parameter.numel() for parameter in model.parameters())
