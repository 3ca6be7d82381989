from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.data.pairs import Preference, read_preferences
from training.errors import DataError

USER = {"role": "user", "content": "Is it open?"}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def read(tmp_path: Path, *rows: Any) -> list[Preference]:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read_preferences(path).items)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Is it open?", "chosen": "Yes.", "rejected": "No."},
        {"prompt": [{"from": "human", "value": "Is it open?"}], "chosen": said("Yes."), "rejected": "No."},
        {
            "prompt": "Is it open?",
            "chosen": {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
            "rejected": [{"from": "gpt", "value": "No."}],
        },
        {"prompt": [USER], "chosen": [said("Yes.")], "rejected": said("No.")},
        {"messages": [USER], "chosen": [USER, said("Yes.")], "rejected": [USER, said("No.")]},
        {"chosen": [USER, said("Yes.")], "rejected": [USER, said("No.")], "score": 3},
    ],
)
def test_shapes_of_pairs(tmp_path: Path, row: dict[str, Any]) -> None:
    (pair,) = read(tmp_path, row)

    assert [message.content for message in pair.chosen.messages] == ["Is it open?", "Yes."]
    assert [message.content for message in pair.rejected.messages] == ["Is it open?", "No."]
    assert pair.source.endswith("pairs.jsonl:1")


def test_the_last_answer_alone_is_learned(tmp_path: Path) -> None:
    history = [USER, said("Who asks?"), {"role": "user", "content": "I."}]

    (pair,) = read(tmp_path, {"messages": history, "chosen": "Yes.", "rejected": "No."})

    assert [message.is_learned for message in pair.chosen.messages] == [False, False, False, True]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "a", "chosen": "Yes."}, "rejected is not an answer"),
        ({"prompt": "a", "chosen": "Yes.", "rejected": " "}, "rejected is not an answer"),
        ({"prompt": "a", "chosen": "Yes.", "rejected": [USER]}, "rejected is not an answer"),
        ({"prompt": "", "chosen": "Yes.", "rejected": "No."}, "prompt is missing"),
        ({"chosen": "Yes.", "rejected": "No."}, "prompt is missing"),
        ({"chosen": [said("Yes.")], "rejected": [said("No.")]}, "prompt is missing"),
        ({"prompt": "a", "chosen": "Yes.", "rejected": "Yes."}, "are the same answer"),
        ({"prompt": [{"role": "narrator", "content": "a"}], "chosen": "b", "rejected": "c"}, "messages.0.role"),
        ({"prompt": [said("Hello")], "chosen": "b", "rejected": "c"}, "the assistant speaks before"),
    ],
)
def test_what_is_no_pair_is_named(tmp_path: Path, row: dict[str, Any], why: str) -> None:
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}

    with pytest.raises(DataError, match=rf"pairs\.jsonl:2: [^\n]*{why}[^\n]*$"):
        read(tmp_path, good, row)


def test_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no pairs"):
        read(tmp_path)
