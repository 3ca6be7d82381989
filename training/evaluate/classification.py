"""How well a classifier names what texts are: accuracy, macro- and micro-averaged F1, each with an interval.

A classifier is a model with a classification head (`…ForSequenceClassification`) as transformers saves it; where texts
may have several labels, the config's `signet_thresholds` says from which probability on each is given, and
`signet_always_labelled` that a text gets one in any case.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification

from training.data.labelled import LabelledText
from training.errors import SourceError, UnknownLabel
from training.evaluate.loading import quiet
from training.evaluate.scores import RESAMPLES, Score
from training.evaluate.source import Source
from training.lexical import bert as _lexical  # noqa: F401, which transformers then knows as a classifier

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

THRESHOLDS = "signet_thresholds"
ALWAYS_LABELLED = "signet_always_labelled"
"""In the config: every text that was learned from has a label, so a text that reaches no threshold gets the nearest."""
POOLING = "signet_pooling"
"""In the config: `mean` where the uppermost layer gives the first token the mean of all, for the head to read."""
MAX_TOKENS = "signet_max_tokens"
"""In the config: where texts were cut in training, so that they are cut there when it is measured."""
MULTI_LABEL = "multi_label_classification"

BATCH_SIZE = 32

_TYPICAL = 10


@dataclass(frozen=True)
class Classification:
    """How a classifier did on some texts."""

    accuracy: Score
    """Texts whose labels are all right."""
    macro_f1: Score
    """The mean of each label's F1, over the labels that the texts or the answers have."""
    micro_f1: Score
    """F1 of all decisions together; for single labels it is the accuracy."""
    texts: int

    def __str__(self) -> str:
        scores = (("accuracy", self.accuracy), ("macro F1", self.macro_f1), ("micro F1", self.micro_f1))
        said = [f"{name} {score}" for name, score in scores]
        return f"{', '.join(said)} on {self.texts} texts"

    def figures(self) -> dict[str, float]:
        """As manifests and `--json` write them."""
        figures: dict[str, float] = {}
        for name in ("accuracy", "macro_f1", "micro_f1"):
            figures |= getattr(self, name).figures(name)
        return {**figures, "texts": self.texts}


@dataclass(frozen=True)
class Classified:
    """How a classifier did, and the digest of the data that it was measured on."""

    measured: Classification
    data_sha256: str


def load_classifier(source: Source) -> PreTrainedModel:
    """Load a classifier; raises SourceError where the model is none."""
    if not is_classifier(source):
        raise SourceError(f"{source.identity.ref} is not a classifier: texts with labels need one (method: classify)")
    with quiet():
        return AutoModelForSequenceClassification.from_pretrained(source.path, local_files_only=True).eval()


def is_classifier(source: Source) -> bool:
    """Whether the model has a classification head."""
    config = json.loads((source.path / "config.json").read_bytes())
    return any(name.endswith("ForSequenceClassification") for name in config.get("architectures") or ())


def longest_text(model: PreTrainedModel, wanted: int) -> int:
    """Where texts are cut: at what is wanted, but no longer than the classifier learned from and can read."""
    learned: int = getattr(model.config, MAX_TOKENS, wanted)
    readable: int = model.config.max_position_embeddings
    return min(wanted, learned, readable)


def labels_of(model: PreTrainedModel) -> list[str]:
    """The labels that a classifier knows, in the order of its outputs."""
    return [model.config.id2label[index] for index in range(model.config.num_labels)]


def probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    max_tokens: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float64]:
    """Of each text (rows) and label (columns); they sum to 1 where a text has one label."""
    encoded = [tokenizer(text, truncation=True, max_length=max_tokens)["input_ids"] for text in texts]
    logits_NC = raw_outputs(model, tokenizer, encoded, on_progress)
    is_multi = model.config.problem_type == MULTI_LABEL
    values: NDArray[np.float64] = (logits_NC.sigmoid() if is_multi else logits_NC.softmax(-1)).numpy()
    return values


def raw_outputs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    encoded: Sequence[list[int]],
    on_progress: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """What the model's last layer says of each text, given as token ids: (texts, outputs) of float64, on the CPU."""
    order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
    parts: list[torch.Tensor] = []
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), BATCH_SIZE):
            part = order[start : start + BATCH_SIZE]
            parts.append(
                model(**pad([encoded[index] for index in part], tokenizer, model.device)).logits.double().cpu()
            )
            if on_progress is not None:
                on_progress(start + len(part), len(order))
    model.train(was_training)
    # Back in the order of the texts.
    outputs = torch.cat(parts)
    return outputs[torch.tensor(order).argsort()]


def pad(rows: Sequence[list[int]], tokenizer: PreTrainedTokenizerFast, device: Any) -> dict[str, torch.Tensor]:
    """Right-padded token ids and their mask, (rows, longest row) each."""
    return dict(tokenizer.pad({"input_ids": list(rows)}, return_tensors="pt", padding_side="right").to(device))


def decide(model: PreTrainedModel, probabilities_NC: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which labels each text gets: the likeliest, or every one that reaches its threshold."""
    if model.config.problem_type == MULTI_LABEL:
        thresholds = np.array(getattr(model.config, THRESHOLDS, None) or [0.5] * model.config.num_labels)
        assigned: NDArray[np.bool_] = probabilities_NC >= thresholds
        if getattr(model.config, ALWAYS_LABELLED, False):
            without = ~assigned.any(1)
            # Nearest as a ratio: rare labels have low thresholds, and would win by difference.
            assigned[without, (probabilities_NC[without] / thresholds).argmax(1)] = True
        return assigned
    one_hot: NDArray[np.bool_] = np.eye(probabilities_NC.shape[1], dtype=bool)[probabilities_NC.argmax(1)]
    return one_hot


def truth(texts: Sequence[LabelledText], labels: Sequence[str]) -> NDArray[np.bool_]:
    """Which labels each text has; raises UnknownLabel naming a text with a label that the model has never seen."""
    columns = {label: column for column, label in enumerate(labels)}
    has = np.zeros((len(texts), len(labels)), dtype=bool)
    for row, text in enumerate(texts):
        for label in text.labels:
            if label not in columns:
                raise UnknownLabel(f"{text.source}: the model was not trained on the label {label!r}")
            has[row, columns[label]] = True
    return has


def judge(has: NDArray[np.bool_], assigned: NDArray[np.bool_], seed: int = 0) -> Classification:
    """Compare what texts are with what they are taken for; intervals by resampling texts."""
    once = np.ones((1, len(has)))
    # How often each text is drawn in each resample: a figure is then a sum over texts, weighted.
    often = np.random.default_rng(seed).multinomial(len(has), [1 / len(has)] * len(has), size=RESAMPLES)

    def score(measure: Callable[[_Decisions, NDArray[Any]], NDArray[np.float64]]) -> Score:
        low, high = np.quantile(measure(decisions, often), [0.025, 0.975])
        return Score(float(measure(decisions, once)[0]), float(low), float(high))

    decisions = _Decisions(has & assigned, has.astype(float) + assigned, (has == assigned).all(1))
    return Classification(score(_accuracy), score(_macro_f1), score(_micro_f1), texts=len(has))


def best_thresholds(has: NDArray[np.bool_], probabilities_NC: NDArray[np.float64]) -> list[float]:
    """For each label the threshold with the best F1 on these texts; a half where they do not have the label.

    A label that few texts have would get the threshold that happens to fit those few. So as many of the average label
    as `_TYPICAL` are counted in: they decide about rare labels, and hardly matter for frequent ones.
    """
    grid_T = np.linspace(0.01, 0.99, 99)
    # (thresholds, labels); a threshold at a time, as texts × labels × thresholds may not fit in memory.
    given_TC = np.array([(probabilities_NC >= threshold).sum(0) for threshold in grid_T])
    right_TC = np.array([(has & (probabilities_NC >= threshold)).sum(0) for threshold in grid_T])
    there_C = has.sum(0)
    share = _TYPICAL / max(there_C.sum(), 1)
    right_TC = right_TC + share * right_TC.sum(1, keepdims=True)
    both_TC = given_TC + share * given_TC.sum(1, keepdims=True) + there_C + share * there_C.sum()
    f1_TC = 2 * right_TC / np.maximum(both_TC, 1e-12)
    # Where several are as good, the middle one.
    best = [float(np.median(grid_T[column == column.max()])) for column in f1_TC.T]
    return [threshold if there else 0.5 for threshold, there in zip(best, there_C, strict=True)]


def write_predictions(
    path: Path, labels: Sequence[str], probabilities_NC: NDArray[np.float64], assigned: NDArray[np.bool_], multi: bool
) -> None:
    """One JSON line a text, in the file's order: what it was taken for, and every label's probability."""
    with path.open("w") as file:
        for scores, chosen in zip(probabilities_NC, assigned, strict=True):
            names = [label for label, is_chosen in zip(labels, chosen, strict=True) if is_chosen]
            answer = {"labels": names} if multi else {"label": names[0]}
            likely = {label: round(float(score), 6) for label, score in zip(labels, scores, strict=True)}
            file.write(json.dumps({**answer, "scores": likely}, ensure_ascii=False) + "\n")


class _Decisions(NamedTuple):
    right: NDArray[np.bool_]
    """Labels that are there and given, (texts, labels)."""
    both: NDArray[np.float64]
    """1 for a label that is there, and 1 for one that is given."""
    exact: NDArray[np.bool_]
    """Texts whose labels are all right."""


def _accuracy(decisions: _Decisions, often: NDArray[Any]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = often @ decisions.exact / often.sum(1)
    return mean


def _macro_f1(decisions: _Decisions, often: NDArray[Any]) -> NDArray[np.float64]:
    right, both = often @ decisions.right, often @ decisions.both
    # A label that neither texts nor answers have would count as an F1 of 0.
    seen = both > 0
    sums: NDArray[np.float64] = np.where(seen, 2 * right / np.maximum(both, 1), 0).sum(1)
    return np.where(seen.any(1), sums / np.maximum(seen.sum(1), 1), 1.0)


def _micro_f1(decisions: _Decisions, often: NDArray[Any]) -> NDArray[np.float64]:
    right, both = (often @ decisions.right).sum(1), (often @ decisions.both).sum(1)
    return np.where(both > 0, 2 * right / np.maximum(both, 1), 1.0)
