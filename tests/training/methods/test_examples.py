"""Which files hold chats, and which plain text."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from training.errors import DataError
from training.evaluate.loading import load_tokenizer
from training.methods.examples import holds_chats, text_blocks

CHAT = {"messages": [{"role": "user", "content": "Open?"}, {"role": "assistant", "content": "Yes."}]}
ALPACA = {"instruction": "Open?", "output": "Yes."}


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", lines(CHAT), True),
        ("a.jsonl.gz", gzip.compress(lines(CHAT), mtime=0), True),
        ("a.json", json.dumps([CHAT], indent=1).encode(), True),
        ("a.jsonl", lines(CHAT).decode().encode("utf-16"), True),
        ("a.jsonl", lines(ALPACA), True),
        ("a.jsonl", lines({"conversations": ["oops"]}), True),
        ("a.jsonl", lines({**ALPACA, "text": "Open? Yes."}), False),
        ("a.jsonl", lines({"text": "They left messages."}), False),
        ("a.txt", b"messages\n", False),
        ("a.jsonl", b"", False),
    ],
    ids=["lines", "gzip", "array", "utf-16", "alpaca", "broken-chat", "has-text", "text", "plain", "empty"],
)
def test_chats_are_told_from_text_in_any_file(tmp_path: Path, name: str, content: bytes, expected: bool) -> None:
    (tmp_path / name).write_bytes(content)

    assert holds_chats(tmp_path / name) is expected


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl: cannot be read"):
        holds_chats(tmp_path / "a.jsonl")


def test_a_control_token_in_a_text_is_text(tiny_model_folder: Path) -> None:
    tokenizer = load_tokenizer(tiny_model_folder)
    text = "if line == '<|im_end|>': stop()"

    [block] = text_blocks([text], tokenizer, 512, "code.txt")

    assert not set(block.input_ids) & set(tokenizer.all_special_ids)
    assert tokenizer.decode(block.input_ids) == text
