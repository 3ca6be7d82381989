"""A language model as a classifier: it is asked for the label of a text, for comparison with classification heads.

Where a text has one label, the likeliest of all answers counts, each with its closing token, so that no label wins for
being the beginning of another. Where a text may have several, the model writes them, greedily, one on each line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.data import ChatEncoder, Example
from training.data.chats import Chat, Message
from training.data.labelled import LabelledText, label_names, read_labelled
from training.errors import DataError
from training.evaluate.classification import MAX_TOKENS, Classified, judge, truth, write_predictions
from training.evaluate.generation import generate_greedily, prompt_of
from training.evaluate.loading import load_chat_tokenizer, load_model, padding_token
from training.evaluate.perplexity import BATCH_SIZE, losses_of
from training.evaluate.source import Source
from training.progress import track

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

LABELS = "signet_labels"
"""In the config of a model that was trained for it: the labels that it answers with."""

_NONE = "none"
# A model that repeats itself is not waited for.
_MOST_ANSWER_TOKENS = 256
# Cut text is tokenized anew with what stands around it, which may take some tokens more.
_SLACK = 8


class LabelQuestions:
    """Texts and their labels as chats: the question, and the answer."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, labels: Sequence[str], several: bool, max_tokens: int, readable: int
    ) -> None:
        """Texts are cut to `max_tokens`, and further where the model can read no more than `readable` in all.

        Raises DataError where it cannot read the labels alone.
        """
        self.labels = list(labels)
        self.several = several
        # On lines of their own: a label's line breaks would make two of it.
        self._lines = {label: " ".join(label.split()) for label in labels}
        self._by_line = {line: label for label, line in self._lines.items()}
        self._tokenizer = tokenizer
        self._encoder = ChatEncoder(tokenizer, sys.maxsize)
        self._room = sys.maxsize
        answers = [self.labels] if several else [[label] for label in labels]
        asked = [self.example(LabelledText("", (), "", "the labels"), answer) for answer in answers]
        self.longest_answer = min(max(example.num_targets for example in asked), _MOST_ANSWER_TOKENS)
        room = readable - max(len(example.input_ids) for example in asked) - _SLACK
        if room < 1:
            raise DataError(f"the question with its {len(labels)} labels is longer than what the model reads")
        self._room = min(max_tokens, room)

    def example(self, text: LabelledText, labels: Sequence[str]) -> Example:
        """The text's question, answered with these labels; raises DataError naming the line of a text."""
        names = ", ".join(self._lines.values())
        if self.several:
            asked = f"Which of these labels fit the text? Answer with one on each line, or {_NONE}: {names}"
        else:
            asked = f"Which of these labels fits the text? Answer with the label: {names}"
        answer = "\n".join(self._lines[label] for label in self.labels if label in labels) or _NONE
        said = [("user", f"{self._cut(text.text)}\n\n{asked}"), ("assistant", answer)]
        messages = [Message.model_validate({"role": role, "content": content}) for role, content in said]
        return self._encoder.encode(Chat(messages=messages, source=text.source))

    def read(self, answer: Sequence[int]) -> list[str]:
        """The labels that an answer names, line by line; what is none of them is passed over."""
        said = self._tokenizer.decode(answer, skip_special_tokens=True)
        lines = (" ".join(line.split()) for line in said.splitlines())
        return [self._by_line[line] for line in lines if line in self._by_line]

    def _cut(self, text: str) -> str:
        if self._room == sys.maxsize:
            return text
        encoded = self._tokenizer(
            text, truncation=True, max_length=self._room, add_special_tokens=False, return_offsets_mapping=True
        )
        return text[: max((end for _, end in encoded["offset_mapping"]), default=0)]


def questions_for(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, labels: Sequence[str], several: bool, max_tokens: int
) -> LabelQuestions:
    """The questions that this model can read."""
    readable: int = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
    return LabelQuestions(tokenizer, labels, several, max_tokens, readable)


def answer_questions(
    model: Any,
    questions: LabelQuestions,
    texts: Sequence[LabelledText],
    pad_token_id: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Of each text (rows) and label (columns): a probability, and whether it is given.

    What the model writes has no probability: it is 1 for a label that is given.
    """
    if questions.several:
        assigned = _written(model, questions, texts, pad_token_id, on_progress)
        return assigned.astype(np.float64), assigned
    examples = [questions.example(text, [label]) for text in texts for label in questions.labels]
    losses = losses_of(model, examples, pad_token_id, on_progress)
    logits_NC = -torch.tensor(losses, dtype=torch.float64).view(len(texts), -1)
    probabilities_NC: NDArray[np.float64] = logits_NC.softmax(-1).numpy()
    one_hot: NDArray[np.bool_] = np.eye(probabilities_NC.shape[1], dtype=bool)[probabilities_NC.argmax(1)]
    return probabilities_NC, one_hot


def _written(
    model: Any,
    questions: LabelQuestions,
    texts: Sequence[LabelledText],
    pad_token_id: int,
    on_progress: Callable[[int, int], None] | None,
) -> NDArray[np.bool_]:
    examples = [questions.example(text, []) for text in texts]
    prompts = [prompt_of(example) for example in examples]
    own = model.generation_config.eos_token_id
    ends = {*(own if isinstance(own, list) else [own] if own is not None else []), examples[0].labels[-1]}
    assigned = np.zeros((len(texts), len(questions.labels)), dtype=bool)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), BATCH_SIZE):
        part = order[start : start + BATCH_SIZE]
        answers = generate_greedily(
            model, [prompts[index] for index in part], questions.longest_answer, sorted(ends), pad_token_id
        )
        for index, answer in zip(part, answers, strict=True):
            assigned[index] = np.isin(questions.labels, questions.read(answer))
        if on_progress is not None:
            on_progress(start + len(part), len(order))
    return assigned


def measure_generative(
    source: Source, data: Path, max_tokens: int, predictions: Path | None = None, show_progress: bool = True
) -> Classified:
    """Load a language model and ask it for the labels of every text of the file; `predictions` gets a line for each.

    Its labels are those that it was trained to answer with, or else the file's. Raises DataError or SourceError.
    """
    file = read_labelled(data)
    tokenizer = load_chat_tokenizer(source)
    model: Any = load_model(source).to("cuda" if torch.cuda.is_available() else "cpu")
    labels: list[str] = getattr(model.config, LABELS, None) or label_names(file.items)
    has = truth(file.items, labels)
    limit = min(max_tokens, getattr(model.config, MAX_TOKENS, max_tokens))
    questions = questions_for(model, tokenizer, labels, file.is_multi_label, limit)
    with track(f"Scoring {source.identity.ref}", show_progress) as progress:
        probabilities_NC, assigned = answer_questions(
            model.eval(), questions, file.items, padding_token(tokenizer), progress
        )
    if predictions is not None:
        write_predictions(predictions, labels, probabilities_NC, assigned, file.is_multi_label)
    return Classified(judge(has, assigned), file.sha256)
