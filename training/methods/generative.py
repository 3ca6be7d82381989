"""Classification without a head: a chat model learns to answer with a text's label, for comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from training.data.labelled import label_names
from training.evaluate.classification import MAX_TOKENS, judge, truth
from training.evaluate.generative import LABELS, answer_questions, questions_for
from training.evaluate.loading import load_chat_tokenizer, load_model, padding_token, stored_dtype
from training.evaluate.source import Source
from training.methods import adapters, agreement
from training.methods.gradient_run import GradientRun
from training.methods.labels import Data, read_data
from training.methods.run_folder import RunFolder
from training.methods.sft import TokenObjective
from training.outcome import Context, Outcome, Stopwatch, next_steps
from training.progress import track
from training.recipes.classify import ClassifyRecipe


class GenerativeRun(GradientRun[ClassifyRecipe]):
    """`run()` reads top to bottom as what happens."""

    example = "text"

    def __init__(self, recipe: ClassifyRecipe, context: Context, accelerator: Accelerator, base: Source) -> None:
        super().__init__(recipe, context, accelerator)
        self.base = base
        self.tokenizer = load_chat_tokenizer(base)
        self.pad_token_id = padding_token(self.tokenizer)

    def run(self) -> Outcome:
        watch = self.start()
        data = read_data(self.recipe.data, self.context, lambda texts, _: label_names(texts), validates=False)
        with self.folder(data.digests, self.base) as folder:
            return self._run(data, folder, watch)

    def _run(self, data: Data, folder: RunFolder, watch: Stopwatch) -> Outcome:
        model: Any = load_model(self.base, torch.float32).to(self.accelerator.device)
        limit = self.recipe.data.max_tokens
        questions = questions_for(model, self.tokenizer, data.labels, data.is_multi_label, limit)
        train, heldout = (
            [questions.example(text, text.labels) for text in texts] for texts in (data.train, data.heldout)
        )
        if self.recipe.adapter is not None:
            adapters.untie_for(model, self.recipe.adapter, "merged")
            model = adapters.attach(model, self.recipe.adapter)
        objective, unseen = (
            TokenObjective(examples, self.pad_token_id, self.accelerator.device) for examples in (train, heldout)
        )
        trained = self.trainer(folder, model, objective, unseen).train(self.show)
        dtype = stored_dtype(self.base)
        outputs = agreement.chat_outputs(heldout, self.pad_token_id)
        model = agreement.merge(model, dtype, outputs)
        # So that it is asked again for the same labels, of the same part of a text.
        setattr(model.config, LABELS, data.labels)
        setattr(model.config, MAX_TOKENS, limit)
        with track("Measuring", self.show) as progress:
            _, assigned = answer_questions(model.eval(), questions, data.heldout, self.pad_token_id, progress)
        measured = judge(truth(data.heldout, data.labels), assigned)
        figures = {**measured.figures(), **trained.figures()}

        def write(target: Path) -> None:
            agreement.write(model, self.base, "merged", dtype, outputs, target)

        checkpoint = self.register(write, kind="merged", base=self.base, data=data.digests, evaluation=figures)
        notes = trained.notes()
        if checkpoint is not None:
            notes += [f"Measure it: signet evaluate {checkpoint.ref} --data FILE", *next_steps(checkpoint)]
        passes = len(trained.losses) * self.recipe.batch_size / len(train)
        return Outcome(
            checkpoint=checkpoint,
            summary=str(measured),
            cost=watch.cost(round(passes * sum(objective.lengths))),
            notes=notes if checkpoint else [],
            report={**figures, "labels": list(data.labels), "losses": list(trained.losses)},
        )
