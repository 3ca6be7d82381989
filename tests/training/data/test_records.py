from pathlib import Path

import pytest

from training.data.chats import read_chats
from training.data.records import Record, folded, record_of
from training.errors import DataError

OPENAI = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}


@pytest.mark.parametrize(
    "row",
    [
        OPENAI,
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
        {"conversations": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}], "id": 7},
        {"messages": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
        {"messages": [{"role": "human", "content": "Hi"}, {"role": "gpt", "content": "Ho"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, OPENAI["messages"][1]]},
        {"messages": None, "instruction": "Hi", "output": "Ho"},
        {"instruction": "Hi", "input": "", "output": "Ho"},
        {"instruction": "Hi", "response": "Ho", "source": "x"},
        {"prompt": "Hi", "completion": "Ho"},
        {"prompt": OPENAI["messages"][:1], "completion": OPENAI["messages"][1:]},
    ],
)
def test_chats_of_every_shape_become_openais(row: dict[str, object]) -> None:
    record = record_of(row, "f:1", {})

    assert (record.kind, record.row) == ("chat", OPENAI)


def test_systems_inputs_histories_and_calls_are_kept() -> None:
    alpaca = {"system": "S", "instruction": "I", "input": "in", "output": "O", "history": [["a", "b"]]}
    calls = [
        {"from": "human", "value": "Q"},
        {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
        {"from": "observation", "value": "1"},
        {"from": "gpt", "value": "A"},
    ]
    sharegpt = {"conversations": calls, "system": "S", "tools": '[{"name": "f"}]'}

    first = record_of(alpaca, "f:1", {}).row["messages"]
    second = record_of(sharegpt, "f:1", {}).row

    assert [(message["role"], message["content"]) for message in first] == [
        ("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "I\n\nin"), ("assistant", "O")]  # fmt: skip
    assert [message["role"] for message in second["messages"]] == ["system", "user", "assistant", "tool", "assistant"]
    assert second["messages"][2]["tool_calls"][0]["function"] == {"name": "f", "arguments": {"x": 1}}
    assert second["tools"] == [{"name": "f"}]


def test_training_reads_the_same_shapes(tmp_path: Path) -> None:
    path = tmp_path / "alpaca.json"
    path.write_text('[{"instruction": "Hi", "input": "", "output": "Ho"}]')

    (chat,) = read_chats(path).items

    assert [message.content for message in chat.messages] == ["Hi", "Ho"]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"body": "x"}, "has neither messages nor text; its keys are body: name them in sources.columns"),
        ({"messages": [], "chosen": "a", "rejected": "b"}, "is a pair of answers"),
        ({"messages": []}, "no message has the role assistant"),
        ({"conversations": [{"from": "alien", "value": "x"}]}, "from 'alien' is not one of"),
        ({"conversations": ["x"]}, "a turn is"),
        ({"conversations": [{"from": "function_call", "value": "no json"}]}, "a function_call is"),
        ({"text": "x", "label": 1.5}, "label is a text or a whole number"),
        ({"text": "x", "labels": "a"}, "labels is a list"),
        ({"text": 5}, "text is 5, and no text"),
        ({"text": None, "label": "a"}, "text is null, and no text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "a part is image_url: only text is learned",
        ),
        ({"messages": OPENAI["messages"], "tools": "no json"}, "tools is not JSON"),
    ],
)
def test_what_is_no_record_is_named(row: dict[str, object], why: str) -> None:
    with pytest.raises(DataError, match=f"^f:1: .*{why}"):
        record_of(row, "f:1", {})


def test_columns_may_be_called_otherwise() -> None:
    record = record_of(
        {"body": "x", "class": 1, "patient": 7}, "f:1", {"text": "body", "label": "class", "group": "patient"}
    )

    assert record.row == {"text": "x", "label": "1", "group": "7"}
    with pytest.raises(DataError, match=r"has no 'body', which sources\.columns\.text names"):
        record_of({"text": "x"}, "f:1", {"text": "body"})


def test_half_characters_are_replaced() -> None:
    assert record_of({"text": "a\ud800b"}, "f:1", {}).row == {"text": "a\ufffdb"}


def test_what_a_call_holds_is_changed_too() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": '{"to": "a", "n": [1, "a"]}'}}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "reasoning": "a", "tool_calls": [call]},
    ]
    record = Record("chat", {"messages": messages}, "f:1")

    assert record.change(lambda text: text.replace("a", "b"))
    said = record.row["messages"][1]
    assert said["reasoning"] == "b"
    assert said["tool_calls"][0]["function"]["arguments"] == '{"to": "b", "n": [1, "b"]}'
    assert not record.change(lambda text: text)


def test_folding() -> None:
    assert folded(" A  b\n") == "a b"
    assert folded("Call 0800-123 now!", without_digits=True) == folded("call 0900 777 NOW", without_digits=True)
    assert folded("12 34", without_digits=True) != folded("56", without_digits=True)
