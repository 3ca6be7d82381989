"""The same greedy answers elsewhere: prompts, and how PyTorch goes on with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

# Nearer than this, the order of sums may decide which of two logits is the larger one.
TIE = 1e-3

TEXTS = (
    "What is the capital of France?", "Name three colours.", "How many legs has a spider?", "Why is the sky blue?",
    "Translate to German: good morning.", "Write a line about rain.", "What is 12 + 30?", "Who wrote Hamlet?",
    "Explain gravity to a child.", "What does DNA stand for?", "Give a synonym of quick.", "Spell 'necessary'.",
    "Is seven a prime number?", "What is a noun?", "def add(a, b):\n    return", "1, 2, 3, 5, 8,",
    "Überall schien die Sonne.", "  two  spaces\tand a tab", "Ça va? Ω≈ç√ 漢字 😀", "The licence of this contract is",
)  # fmt: skip


@dataclass(frozen=True)
class Expected:
    """One prompt, and how PyTorch goes on."""

    text: str
    prompt: list[int]
    tokens: list[int]
    margins: list[float]
    """Of each token: how far its logit is above the second one."""

    def agrees(self, prompt: Sequence[int], tokens: Sequence[int]) -> bool:
        """Whether another runtime reads and answers the same, or parts where two logits are nearly equal."""
        if list(prompt) != self.prompt or len(tokens) != len(self.tokens):
            return False
        parted = next((at for at, pair in enumerate(zip(tokens, self.tokens, strict=True)) if pair[0] != pair[1]), None)
        return parted is None or self.margins[parted] < TIE


def encode(tokenizer: Any, text: str) -> list[int]:
    """As a chat's first message, where there is a template, or as it stands."""
    if not tokenizer.chat_template:
        return list(tokenizer(text)["input_ids"])
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
    )
    return list(tokenizer(rendered, add_special_tokens=False)["input_ids"])


def greedy(
    next_logits: Callable[[list[int]], torch.Tensor], prompt: list[int], count: int
) -> tuple[list[int], list[float]]:
    """So many tokens, each the most likely one, and each one's margin; an end of the text is a token as any other."""
    tokens: list[int] = []
    margins: list[float] = []
    for _ in range(count):
        best = next_logits([*prompt, *tokens]).topk(2)
        tokens.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
    return tokens, margins


def expected_answers(model: Any, tokenizer: Any, texts: Sequence[str], count: int) -> list[Expected]:
    """How a model in PyTorch goes on."""
    return [_expected(model, text, encode(tokenizer, text), count) for text in texts]


def _expected(model: Any, text: str, prompt: list[int], count: int) -> Expected:
    cache = DynamicCache(config=model.config)

    def next_logits(ids: list[int]) -> torch.Tensor:
        unread = torch.tensor([ids[cache.get_seq_length() :]])
        with torch.inference_mode():
            logits_BLV = model(input_ids=unread, past_key_values=cache, use_cache=True).logits
        return logits_BLV[0, -1].float()

    return Expected(text, prompt, *greedy(next_logits, prompt, count))
