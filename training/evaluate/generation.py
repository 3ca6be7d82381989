"""What a language model writes after a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from training.data import IGNORED, Example


def prompt_of(example: Example) -> list[int]:
    """What stands before the last answer; nothing where all is learned."""
    end = max((at for at, label in enumerate(example.labels) if label != IGNORED), default=-1) + 1
    start = end
    while start > 0 and example.labels[start - 1] != IGNORED:
        start -= 1
    return example.input_ids[:start]


def generate_greedily(
    model: Any, prompts: Sequence[list[int]], most: int, ends: Sequence[int], pad_token_id: int
) -> list[list[int]]:
    """What follows each prompt, by the likeliest token at each place: at most so many, up to one of `ends`, kept."""
    length = max(map(len, prompts))
    # On the left: the answer is generated behind the last token of its row.
    padding = [length - len(prompt) for prompt in prompts]
    ids_BL = torch.tensor([[pad_token_id] * pad + prompt for pad, prompt in zip(padding, prompts, strict=True)])
    mask_BL = torch.tensor([[0] * pad + [1] * (length - pad) for pad in padding])
    with torch.inference_mode():
        out_BL = model.generate(
            input_ids=ids_BL.to(model.device),
            attention_mask=mask_BL.to(model.device),
            max_new_tokens=most,
            # The model's own sampling settings do not apply: transformers warns of those that greedy search ignores.
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            eos_token_id=list(ends) or None,
            pad_token_id=pad_token_id,
        )
    return [_until_end(row[length:].tolist(), ends) for row in out_BL.cpu()]


def _until_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    """Without the padding behind the end, which is kept: the student learns to stop."""
    at = next((index for index, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return tokens[: at + 1]
