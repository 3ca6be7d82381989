import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from training.data import IGNORED, ChatEncoder, Example, encode_all, read_chats
from training.errors import DivergedError
from training.evaluate import Source
from training.evaluate.loading import load_chat_tokenizer, load_model
from training.evaluate.perplexity import collate, measure_perplexity, perplexity_of, summed_loss, total_loss
from training.registry import CheckpointRef

CHATS = [("Hi", "Hello."), ("Is it open?", "Yes, until ten.", "Today?", "Every day."), ("A", "B" * 90)] * 4


@pytest.fixture
def model(tiny_model_folder: Path) -> Any:
    return load_model(Source(tiny_model_folder, CheckpointRef(ref="tiny", digest="sha256:" + "0" * 64)))


@pytest.fixture
def examples(tiny_model_folder: Path, write_chats: Callable[..., Path]) -> list[Example]:
    encoder = ChatEncoder(load_chat_tokenizer(tiny_model_folder), 512)
    return encode_all(encoder, read_chats(write_chats("chats.jsonl", CHATS)).items)


def reference_loss(model: Any, example: Example) -> tuple[float, int]:
    """One token after another, without batches, padding or masks."""
    total, count = 0.0, 0
    with torch.no_grad():
        log_probabilities = model(torch.tensor([example.input_ids])).logits[0].double().log_softmax(-1)
    for position in range(1, len(example.input_ids)):
        if example.labels[position] != IGNORED:
            total -= log_probabilities[position - 1, example.input_ids[position]].item()
            count += 1
    return total, count


def test_equals_a_slow_reference(model: Any, examples: list[Example]) -> None:
    losses, counts = zip(*(reference_loss(model, example) for example in examples), strict=True)

    measured = measure_perplexity(model, examples, pad_token_id=0)

    assert measured.tokens == sum(counts)
    assert measured.chats == len(examples)
    assert measured.value == pytest.approx(math.exp(sum(losses) / sum(counts)), rel=1e-5)


def test_padding_and_its_token_change_nothing(model: Any, examples: list[Example]) -> None:
    together = [total_loss(model, examples, pad_token_id=pad) for pad in (0, 7)]
    alone = sum(total_loss(model, [example], pad_token_id=0) for example in examples)

    assert together[0] == pytest.approx(alone, rel=1e-5)
    assert together[1] == pytest.approx(alone, rel=1e-5)


def test_prompts_are_not_scored(model: Any, examples: list[Example]) -> None:
    # A model that is sure of every answer byte "B" and of nothing else.
    class OnlyB(torch.nn.Module):
        training, device = False, torch.device("cpu")

        def eval(self) -> Any:
            return self

        def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
            logits = torch.zeros(*input_ids.shape, 259)
            logits[..., answer] = 50.0
            return type("Output", (), {"logits": logits})()

    answer = examples[2].labels[-3]  # before the closing token and the newline
    only_b = Example(examples[2].input_ids, [label if label == answer else IGNORED for label in examples[2].labels], "")

    assert measure_perplexity(OnlyB(), [only_b], 0).value == pytest.approx(1.0)  # type: ignore[arg-type]
    assert measure_perplexity(OnlyB(), examples[:1], 0).value > 1e9  # type: ignore[arg-type]


def test_progress_ends_at_the_number_of_chats(model: Any, examples: list[Example]) -> None:
    seen: list[tuple[int, int]] = []

    measure_perplexity(model, examples, 0, lambda done, total: seen.append((done, total)))

    assert seen == [(8, 12), (12, 12)]


def test_measuring_leaves_the_models_mode_alone(model: Any, examples: list[Example]) -> None:
    model.train()

    measure_perplexity(model, examples, 0)

    assert model.training


def test_loss_is_differentiable_and_in_fp32(model: Any, examples: list[Example]) -> None:
    loss = summed_loss(model.to(torch.bfloat16), collate(examples, 0))
    loss.backward()

    assert loss.dtype == torch.float32
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_nothing_to_score_is_zero(model: Any) -> None:
    assert total_loss(model, [], 0) == 0.0


def test_a_loss_beyond_any_number_is_one_line() -> None:
    assert perplexity_of(0.0) == 1.0

    with pytest.raises(DivergedError, match="the loss is 800 nats per token: the training diverged"):
        perplexity_of(800.0)
