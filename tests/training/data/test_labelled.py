from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.data.labelled import check_no_leak, label_names, read_labelled
from training.data.split import split_by_group
from training.errors import DataError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(*rows: Any, name: str = "texts.jsonl", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_bytes("\r\n".join(lines).encode(encoding))
        return path

    return write


def test_one_label_or_several(write: Write) -> None:
    one = read_labelled(write({"text": "Win!", "label": "spam"}, "", {"text": "Hello\u2028you", "label": 0, "id": 7}))
    several = read_labelled(write({"text": "a", "labels": ["x", "y", "x"]}, {"text": "b", "labels": []}))

    assert [(text.text, text.labels) for text in one.items] == [("Win!", ("spam",)), ("Hello\u2028you", ("0",))]
    assert [text.labels for text in several.items] == [("x", "y"), ()]
    assert (one.is_multi_label, several.is_multi_label) == (False, True)
    assert one.items[1].source.endswith("texts.jsonl:3")
    assert label_names(one.items) == ["0", "spam"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_any_unicode_encoding(write: Write, encoding: str) -> None:
    read = read_labelled(write({"text": "Grüße", "label": "ham"}, encoding=encoding))

    assert [text.text for text in read.items] == ["Grüße"]


def test_csv_and_tab_separated(write: Write) -> None:
    table = read_labelled(write("Text,LABEL,group", '"two\nlines, one cell",ham,a', "Win,spam,b", name="t.csv"))
    tabs = read_labelled(write("ham\tOk lar... \t wif u", "spam\tFree {entry}", name="collection"))

    assert [(text.text, text.labels, text.group) for text in table.items] == [
        ("two\nlines, one cell", ("ham",), "a"),
        ("Win", ("spam",), "b"),
    ]
    assert [(text.text, text.labels) for text in tabs.items] == [
        ("Ok lar... \t wif u", ("ham",)),
        ("Free {entry}", ("spam",)),
    ]


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([], ": holds no texts"),
        (['{"text": "a", "label": "x"}', '{"text": "a", '], ":2: is not JSON"),
        (['{"text": "a", "label": "x"}', "[]"], ":2: is not a JSON object"),
        ([{"label": "x", "body": "a"}], ":1: has no text, only 'label', 'body'"),
        ([{"text": "  ", "label": "x"}], ":1: text is missing or empty"),
        ([{"text": "a"}], ":1: label is a text or a whole number"),
        ([{"text": "a", "label": True}], ":1: label is a text or a whole number"),
        ([{"text": "a", "labels": "x"}], ":1: labels is a list"),
        ([{"text": "a", "label": "x"}, {"text": "b", "labels": ["x"]}], ":2: has labels, where the lines before"),
        (["no tab"], ":1: is not JSON: Expecting value at character 1"),
    ],
)
def test_bad_lines_are_named(write: Write, rows: list[Any], line: str) -> None:
    path = write(*rows)

    with pytest.raises(DataError) as raised:
        read_labelled(path)

    assert str(raised.value).startswith(f"{path}{line}")
    assert "\n" not in str(raised.value)


def test_a_group_is_never_on_both_sides(write: Write) -> None:
    rows = [{"text": f"text {number}", "label": number % 2, "group": number // 4} for number in range(200)]
    texts = read_labelled(write(*rows)).items

    kept, heldout = split_by_group(texts, 0.3)

    assert {text.group for text in kept} & {text.group for text in heldout} == set()
    assert len(kept) + len(heldout) == 200
    again, _ = split_by_group(texts[::-1], 0.3)
    assert {text.text for text in again} == {text.text for text in kept}


def test_equal_texts_are_never_on_both_sides(write: Write) -> None:
    rows = [
        {"text": f"Text  {number % 20}".upper() if number % 3 else f"text {number % 20}", "label": "x"}
        for number in range(80)
    ]
    kept, heldout = split_by_group(read_labelled(write(*rows)).items, 0.3)

    assert {text.text.casefold().split()[1] for text in kept} & {
        text.text.casefold().split()[1] for text in heldout
    } == set()


@pytest.mark.parametrize(
    "held", [{"text": "win  NOW", "label": "x"}, {"text": "other", "label": "x", "group": "g"}], ids=["text", "group"]
)
def test_a_leak_is_refused_and_counted(write: Write, held: dict[str, str]) -> None:
    train = read_labelled(write({"text": "fine", "label": "y"}, {"text": "Win now", "label": "x", "group": "g"})).items
    heldout = read_labelled(write({"text": "new", "label": "x"}, held, name="held.jsonl")).items

    with pytest.raises(
        DataError, match=r"held\.jsonl:2: is held out, and .*texts\.jsonl:2 trains on the same .* \(1 of 2\)"
    ):
        check_no_leak(train, heldout)


def test_one_label_alone_is_refused(write: Write) -> None:
    texts = read_labelled(write({"text": "a", "label": "x"}, {"text": "b", "label": "x"})).items

    with pytest.raises(DataError, match="has only the label 'x'"):
        label_names(texts)
