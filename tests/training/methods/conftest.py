from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

SETTINGS = """\
method: lora-sft
name: desk
base: tiny
data:
  train: train.jsonl
  heldout: heldout.jsonl
  max_tokens: 256
steps: 30
batch_size: 4
micro_batch_size: 4
optimizer:
  learning_rate: 0.02
seed: 3
"""


@pytest.fixture
def recipe_path(tmp_path: Path, write_chats: Callable[..., Path]) -> Path:
    """A recipe for the tiny model, and its data: answers that a few steps can learn."""
    answer = "It is open until ten. Happy measuring!"
    write_chats("train.jsonl", [(f"Question {number}?", answer) for number in range(20)])
    write_chats("heldout.jsonl", [(f"Is shop {number} open?", answer) for number in range(6)])
    path = tmp_path / "tiny-sft.yaml"
    path.write_text(SETTINGS)
    return path
