from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from training.data.texts import holds_texts
from training.errors import DataError
from training.evaluate import resolve_source
from training.evaluate.loading import load_model, load_tokenizer
from training.evaluate.texts import measure_texts
from training.registry import Registry

TEXT = "Seven lighthouses stand on the coast; an eighth is à louer.\n" * 4


@pytest.mark.parametrize("block", [8, 50, 1000])
def test_every_token_is_scored_in_blocks(block: int, tiny: Registry, tmp_path: Path) -> None:
    (tmp_path / "coast.txt").write_text(TEXT)
    source = resolve_source("tiny", tiny, show_progress=False)

    found = measure_texts(source, tmp_path / "coast.txt", block, show_progress=False)

    model, tokenizer = load_model(source), load_tokenizer(source.path)
    ids = torch.tensor(tokenizer(TEXT, add_special_tokens=False)["input_ids"])
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(ids) - 1, min(block, 512)):
            row = ids[start : start + min(block, 512) + 1]
            total += cross_entropy(model(row[None, :-1]).logits[0].float(), row[1:], reduction="sum").item()
    assert (found.tokens, found.block) == (len(ids) - 1, min(block, 512))
    assert found.loss == pytest.approx(total / (len(ids) - 1), rel=1e-5)
    assert found.bits_per_byte == pytest.approx(total / math.log(2) / (len(TEXT.encode()) - 1), rel=1e-5)
    assert found.figures()["perplexity"] == math.exp(found.loss)


def test_a_single_token_is_one_line(tiny: Registry, tmp_path: Path) -> None:
    (tmp_path / "coast.txt").write_text("a")

    with pytest.raises(DataError, match=r"coast\.txt: is a single token"):
        measure_texts(resolve_source("tiny", tiny, show_progress=False), tmp_path / "coast.txt", 8, False)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "", True),
        ("a.md", '{"messages": []}', False),
        ("a.txt", "\n123\n", True),
        ("a.txt", "one\ttwo\n", True),
        ("a.py", "{1: 2}", True),
        ("a.csv", "text\none", True),
        ("a.csv", "text,label\none,x", False),
        ("a.json", '[{"messages": []}]', False),
        ("a.jsonl", '\n{"text": "one"}', True),
        ("a.jsonl", '{"text": "one", "label": "x"}', False),
        ("a.jsonl", '{"messages": [], "text": ""}', False),
        ("a.jsonl", "{", False),
        ("a.jsonl", "", False),
    ],
)
def test_plain_text_is_told_from_chats_and_labels(name: str, content: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)

    assert holds_texts(tmp_path / name) is expected
