"""Classification: a head on a model learns what texts are, with the model itself or an adapter on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import AutoConfig, AutoModelForSequenceClassification

from training.data.labelled import LabelledText, label_names
from training.errors import RecipeError, SourceError
from training.evaluate.classification import (
    ALWAYS_LABELLED,
    MAX_TOKENS,
    MULTI_LABEL,
    THRESHOLDS,
    best_thresholds,
    decide,
    is_classifier,
    judge,
    load_classifier,
    longest_text,
    pad,
    probabilities,
    raw_outputs,
    truth,
)
from training.evaluate.loading import load_tokenizer, quiet
from training.evaluate.source import Source
from training.lexical.bert import with_lexical_part, without_lexical_part
from training.lexical.counts import inverse_document_frequency, weigh_texts
from training.methods import adapters, agreement
from training.methods.fitted_head import FittedHead, fit_head, head_of
from training.methods.generative import GenerativeRun
from training.methods.gradient_run import GradientRun, processes
from training.methods.labels import Data, read_data
from training.methods.mean_pooling import pool_means
from training.methods.run_folder import RunFolder
from training.methods.students import keep_layers
from training.methods.trainer import Objective, Training
from training.methods.upper_layers import UpperLayersObjective
from training.outcome import Context, Outcome, Stopwatch
from training.progress import track
from training.recipes.classify import ClassifyRecipe
from training.recipes.distill import DistillRecipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Compared before and after folding and writing.
_PROBES = 16


def run(recipe: ClassifyRecipe, context: Context) -> Outcome:
    """Train and register; whatever interrupts it, nothing is registered half."""
    with processes() as accelerator:
        base = adapters.require_trainable(context.find_model(recipe.base))
        if recipe.head == "generative":
            return GenerativeRun(recipe, context, accelerator, base).run()
        return ClassifierRun(recipe, context, accelerator, base).run()


class LabelObjective:
    """Cross-entropy of a text's label, or of each label for itself."""

    def __init__(self, rows: Sequence[list[int]], targets: torch.Tensor, tokenizer: PreTrainedTokenizerFast) -> None:
        self._rows = rows
        self._targets = targets
        self._tokenizer = tokenizer
        self.is_multi_label = targets.is_floating_point()
        self.lengths = [len(row) for row in rows]

    def weight(self, indices: Sequence[int]) -> int:
        """Texts."""
        return len(indices)

    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        """In nats."""
        return self.against_labels(self.logits(model, indices), indices)

    def logits(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        """What the model says of these texts, (texts, labels)."""
        rows = [self._rows[index] for index in indices]
        logits_BC: torch.Tensor = model(**pad(rows, self._tokenizer, self._targets.device)).logits.float()
        return logits_BC

    def against_labels(self, logits_BC: torch.Tensor, indices: Sequence[int]) -> torch.Tensor:
        """The loss of what was said of these texts."""
        targets = self._targets[list(indices)]
        if self.is_multi_label:
            return binary_cross_entropy_with_logits(logits_BC, targets, reduction="sum")
        return cross_entropy(logits_BC, targets, reduction="sum")


class ClassifierRun(GradientRun[ClassifyRecipe | DistillRecipe]):
    """`run()` reads top to bottom as what happens."""

    example = "text"

    def __init__(
        self,
        recipe: ClassifyRecipe | DistillRecipe,
        context: Context,
        accelerator: Accelerator,
        base: Source,
        parents: Sequence[Source] = (),
    ) -> None:
        super().__init__(recipe, context, accelerator)
        self.base = base
        self.parents = parents
        self.fitted: FittedHead | None = None

    def run(self) -> Outcome:
        watch = self.start()
        data = self._read_data()
        tokenizer = padding_tokenizer(self.base)
        with self.folder(data.digests, *(self.parents or [self.base])) as folder:
            model = _load(self.base, data, tokenizer, self.recipe.data.max_tokens)
            if isinstance(self.recipe, ClassifyRecipe):
                _shape(model, self.recipe)
            model = model.to(self.accelerator.device)
            rows, targets = self._encode(model, tokenizer, data, data.train)
            if isinstance(self.recipe, ClassifyRecipe) and self.recipe.head == "fitted":
                plain = without_lexical_part(model)
                model = self._fit_head(plain, tokenizer, data, rows, targets, self.recipe.lexical)
            if self.recipe.adapter is not None:
                model = adapters.attach(model, self.recipe.adapter, task="SEQ_CLS")
            trained, tokens = self._train(model, tokenizer, data, rows, targets, folder)
            model = agreement.merge(model, torch.float32, self._probe(tokenizer, data))
            return self._finish(model, tokenizer, data, trained, tokens, watch)

    @property
    def _only_fits(self) -> bool:
        """Whether a fitted head is all that is learned."""
        recipe = self.recipe
        is_fitted = isinstance(recipe, ClassifyRecipe) and recipe.head == "fitted"
        return is_fitted and recipe.steps is None and recipe.epochs is None

    def _read_data(self) -> Data:
        # Thresholds are seen in the result: chosen on examples, they would tell of them. A fitted head's are chosen on
        # what heads say that were fitted without the text, so that all texts are learned from.
        validates = self.recipe.privacy is None and not self._only_fits
        return read_data(self.recipe.data, self.context, self.labels, validates)

    def _train(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerFast,
        data: Data,
        rows: list[list[int]],
        targets: torch.Tensor,
        folder: RunFolder,
    ) -> tuple[Training, int]:
        """Train, and return how it went and how many tokens the texts have that were learned from."""
        if self.fitted is not None and self._only_fits:
            losses = [self.fitted.first_loss, self.fitted.loss]
            return Training(losses, len(rows), self.fitted.seconds), sum(map(len, rows))
        # Not where the head has learned already, nor where its frequencies would tell of the examples.
        is_new = not is_classifier(self.base) and self.fitted is None
        if data.is_multi_label and is_new and self.recipe.privacy is None:
            begin_at_frequencies(model, targets)
        objective = self.objective(data, rows, targets, tokenizer)
        if isinstance(self.recipe, ClassifyRecipe) and self.recipe.layers is not None:
            objective = self._upper_layers(objective, model, self.recipe.layers)
        heldout = LabelObjective(*self._encode(model, tokenizer, data, data.heldout), tokenizer)
        trained = self.trainer(folder, model, objective, heldout).train(self.show)
        passes = trained.weight / len(rows)
        return trained, round(passes * sum(len(row) for row in rows))

    def _encode(
        self, model: Any, tokenizer: PreTrainedTokenizerFast, data: Data, texts: Sequence[LabelledText]
    ) -> tuple[list[list[int]], torch.Tensor]:
        """Token ids, and the label of each text or, where it may have several, a column for each."""
        limit = longest_text(model, self.recipe.data.max_tokens)
        rows = [tokenizer(text.text, truncation=True, max_length=limit)["input_ids"] for text in texts]
        has = torch.from_numpy(truth(texts, data.labels)).to(self.accelerator.device)
        return rows, has.float() if data.is_multi_label else has.int().argmax(1)

    def _fit_head(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerFast,
        data: Data,
        rows: list[list[int]],
        targets: torch.Tensor,
        lexical: bool,
    ) -> Any:
        """The model with the best head on it as it is, beside what its tokens say where `lexical`."""
        place, name = head_of(model, len(data.labels))
        head: nn.Linear = getattr(place, name)
        if head.bias is None:
            raise RecipeError(f"head: fitted needs a head with a bias, and {type(model).__name__} has none")
        with track("Reading the texts", self.show) as progress:
            setattr(place, name, nn.Identity())  # what the head would be given is then what the model says
            try:
                inputs = raw_outputs(model, tokenizer, rows, progress)
            finally:
                setattr(place, name, head)
        vocabulary = model.config.vocab_size
        idf_V = inverse_document_frequency(rows, vocabulary) if lexical else None
        tokens = None if idf_V is None else weigh_texts(rows, idf_V)
        with track("Fitting the head", self.show):
            groups = [text.group for text in data.train]
            self.fitted = fit_head(inputs, targets.cpu(), len(data.labels), groups, tokens, vocabulary)
        with torch.no_grad():
            head.weight.copy_(self.fitted.weight)
            head.bias.copy_(self.fitted.bias)
        return model if idf_V is None else with_lexical_part(model, idf_V, self.fitted.lexical)

    def _upper_layers(self, objective: Objective, model: Any, learned: int) -> Objective:
        """Freeze what is below the layers that learn, and compute it for all texts."""
        upper = UpperLayersObjective(objective, model, learned)
        with track("Computing the lower layers", self.show) as progress:
            upper.remember(model, progress)
        return upper

    def labels(self, texts: Sequence[LabelledText], is_multi_label: bool) -> list[str]:
        """The labels that are learned, in the order of the model's outputs."""
        return label_names(texts)

    def objective(
        self, data: Data, rows: Sequence[list[int]], targets: torch.Tensor, tokenizer: PreTrainedTokenizerFast
    ) -> Objective:
        """What is minimized over the encoded texts."""
        return LabelObjective(rows, targets, tokenizer)

    def figures(self, model: Any, data: Data) -> dict[str, float]:
        """What the manifest says of the trained model besides how it did."""
        return {} if self.fitted is None else {"head_penalty": self.fitted.penalty}

    def _finish(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerFast,
        data: Data,
        trained: Training,
        tokens: int,
        watch: Stopwatch,
    ) -> Outcome:
        self._choose_thresholds(model, tokenizer, data)
        with track("Measuring", self.show) as progress:
            probabilities_NC = self._probabilities(model, tokenizer, data.heldout, progress)
        measured = judge(truth(data.heldout, data.labels), decide(model, probabilities_NC))

        def write(folder: Path) -> None:
            outputs = self._probe(tokenizer, data)
            expected = outputs(model)
            model.save_pretrained(folder)
            adapters.copy_companions(self.base.path, folder)
            again: Any = load_classifier(agreement.written(folder))
            agreement.require_files(expected, outputs(again.to(model.device)))

        figures = {**measured.figures(), **self.figures(model, data), **trained.figures()}
        checkpoint = self.register(
            write,
            kind="classifier",
            base=self.base,
            parents=self.parents,
            data=data.digests,
            evaluation=figures,
        )
        return Outcome(
            checkpoint=checkpoint,
            summary=str(measured),
            cost=watch.cost(tokens),
            notes=[*trained.notes(), f"Measure it: signet evaluate {checkpoint.ref} --data FILE"] if checkpoint else [],
            report={**figures, "labels": list(data.labels), "losses": list(trained.losses)},
        )

    def _choose_thresholds(self, model: Any, tokenizer: PreTrainedTokenizerFast, data: Data) -> None:
        """From which probability on each label is given, where a text may have several."""
        if not data.is_multi_label:
            return
        if self._only_fits and self.fitted is not None and self.fitted.left_out is not None:
            chosen_on, probabilities_NC = data.train, self.fitted.left_out.sigmoid().numpy()
        elif data.validation:
            chosen_on = data.validation
            with track("Choosing thresholds", self.show) as progress:
                probabilities_NC = self._probabilities(model, tokenizer, chosen_on, progress)
        else:
            return
        setattr(model.config, THRESHOLDS, best_thresholds(truth(chosen_on, data.labels), probabilities_NC))
        always = all(text.labels for text in [*data.train, *data.validation])
        setattr(model.config, ALWAYS_LABELLED, always)

    def _probe(self, tokenizer: PreTrainedTokenizerFast, data: Data) -> agreement.Outputs:
        """The logits of the first held-out texts."""
        texts = [text.text for text in data.heldout[:_PROBES]]

        def outputs(model: Any) -> torch.Tensor:
            limit = longest_text(model, self.recipe.data.max_tokens)
            rows = [tokenizer(text, truncation=True, max_length=limit)["input_ids"] for text in texts]
            with agreement.evaluating(model):
                logits_BC: torch.Tensor = model(**pad(rows, tokenizer, model.device)).logits.float().cpu()
            return logits_BC

        return outputs

    def _probabilities(
        self, model: Any, tokenizer: PreTrainedTokenizerFast, texts: Sequence[LabelledText], progress: Any
    ) -> Any:
        limit = longest_text(model, self.recipe.data.max_tokens)
        return probabilities(model, tokenizer, [text.text for text in texts], limit, progress)


def _load(base: Source, data: Data, tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> Any:
    names = dict(enumerate(data.labels))
    try:
        config = AutoConfig.from_pretrained(base.path, local_files_only=True)
        config.num_labels = len(names)
        config.id2label, config.label2id = names, {label: index for index, label in names.items()}
        config.problem_type = MULTI_LABEL if data.is_multi_label else "single_label_classification"
        # Decoders classify from the last token that is no padding, which they find by this id.
        config.pad_token_id = tokenizer.pad_token_id
        setattr(config, MAX_TOKENS, max_tokens)
        with quiet():  # that the head is new is what is wanted
            return AutoModelForSequenceClassification.from_pretrained(
                base.path, config=config, dtype=torch.float32, local_files_only=True, ignore_mismatched_sizes=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise SourceError(f"{base.identity.ref} takes no classification head: {str(error).splitlines()[0]}") from None


def _shape(model: Any, recipe: ClassifyRecipe) -> None:
    """Leave so many layers, and have the head read what the recipe says."""
    count = model.config.num_hidden_layers
    if recipe.depth is not None and recipe.depth > count:
        raise RecipeError(f"depth: the model has {count} layers")
    if recipe.depth is not None and recipe.depth < count:
        keep_layers(model, range(recipe.depth))
    if recipe.pooling == "mean":
        pool_means(model)


def begin_at_frequencies(model: nn.Module, has: torch.Tensor) -> None:
    """Have the head of several labels say of any text how frequent each is (Lin et al. 2017), where it has a bias.

    From zero, the first hundreds of steps would go into learning that most texts have not most of the labels.
    """
    layers = [
        module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == has.shape[1]
    ]
    if layers and layers[-1].bias is not None:
        # One more yes and no each (Laplace): the logit of a label that all or no texts have is finite.
        frequent_C = (has.sum(0) + 1) / (len(has) + 2)
        layers[-1].bias.data.copy_(frequent_C.logit())


def padding_tokenizer(base: Source) -> PreTrainedTokenizerFast:
    """The tokenizer of a model, with something to fill batches with."""
    tokenizer = load_tokenizer(base)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
