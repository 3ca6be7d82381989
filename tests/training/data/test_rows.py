import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.data import read_chats
from training.data.labelled import read_labelled
from training.data.pairs import read_preferences, read_query_pairs
from training.data.rows import read_rows
from training.errors import DataError


def rows(name: str, content: bytes, **options: object) -> list[dict[str, object]]:
    return [row for _, row in read_rows(Path(name), io.BytesIO(content), **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("name", "lines", "expected"),
    [
        ("a.jsonl", ['{"text": "naïve\u2028"}', "", '{"text": "two"}'], [{"text": "naïve\u2028"}, {"text": "two"}]),
        ("a.csv", ["Text,label", '"one, naïve",x'], [{"text": "one, naïve", "label": "x"}]),
        ("a.csv", ["text;label", '"one; naïve";x'], [{"text": "one; naïve", "label": "x"}]),
        ("a.csv", ["body|class", "one, naïve|x"], [{"body": "one, naïve", "class": "x"}]),
        ("a.json", ['{"text": "one"}', '{"text": "two"}'], [{"text": "one"}, {"text": "two"}]),
        ("a.json", ['{"version": 1,', '"data": [{"text": "one"}]}'], [{"text": "one"}]),
        ("a.json", ['{"data": [{"text": "one"}, {"text": "two"}]}'], [{"text": "one"}, {"text": "two"}]),
        ("a.json", ['{"messages": [', '{"role": "user"}]}'], [{"messages": [{"role": "user"}]}]),
        ("a.tsv", ["label\ttext", "x\tone"], [{"text": "one", "label": "x"}]),
        ("collection", ["ham\tone \t two", "spam\tthree"], [
            {"label": "ham", "text": "one \t two"}, {"label": "spam", "text": "three"}]),
        ("a.txt", ["one", "more", "", "", "two"], [{"text": "one\nmore"}, {"text": "two"}]),
    ],
)  # fmt: skip
def test_formats_are_told_apart_in_every_encoding(
    name: str, lines: list[str], expected: list[dict[str, str]], end: str, encoding: str
) -> None:
    content = end.join([*lines, ""]).encode(encoding)

    assert rows(name, content) == expected
    assert rows(f"{name}.gz", gzip.compress(content)) == expected


def test_cells_hold_line_ends_and_rows_are_named_by_the_line_they_end_on() -> None:
    found = list(read_rows(Path("a.csv"), io.BytesIO(b'text,label\n"one\ntwo",x\nthree,y\n')))

    assert found == [("a.csv:3", {"text": "one\ntwo", "label": "x"}), ("a.csv:4", {"text": "three", "label": "y"})]


def test_units_of_plain_text() -> None:
    content = b"one\ntwo\n\nthree\n"

    assert rows("a.txt", content, unit="line") == [{"text": "one"}, {"text": "two"}, {"text": "three"}]
    assert rows("a.txt", content, unit="file") == [{"text": "one\ntwo\n\nthree"}]
    assert rows("a.py", b"{\n}\n", as_text=True) == [{"text": "{\n}"}]


def test_a_json_array_is_read() -> None:
    assert rows("a.json", b'[{"text": "one"},\n {"text": "two"}]') == [{"text": "one"}, {"text": "two"}]


@pytest.mark.parametrize("kind", ["parquet", "file.arrow", "stream.arrow"])
def test_columns_are_read_without_their_nulls(tmp_path: Path, kind: str) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    chat = [{"role": "user", "content": "Hi", "weight": None}, {"role": "assistant", "content": "Ho", "weight": 0}]
    table = pa.Table.from_pylist([{"messages": chat, "text": None}, {"messages": chat[:1], "text": "x"}])
    path = tmp_path / f"data.{kind}"
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        make = pa.ipc.new_file if kind.startswith("file") else pa.ipc.new_stream
        with make(str(path), table.schema) as writer:
            writer.write_table(table)

    with path.open("rb") as file:
        found = [row for _, row in read_rows(path, file)]

    assert found == [
        {"messages": [{"role": "user", "content": "Hi"}, chat[1]]},
        {"messages": [{"role": "user", "content": "Hi"}], "text": "x"},
    ]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', r"a\.jsonl:2: is not JSON: .* at character 10"),
        ("a.jsonl", b'{"text": "x"}\n[1]\n', r"a\.jsonl:2: is not a JSON object"),
        ("a.jsonl", b'{"a":' * 100_000, r"a\.jsonl:1: is JSON nested too deeply"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xe9"}\n', r"a\.jsonl:2: is not UTF-8"),
        ("a.csv", b"text,label\na,b\na,b,c\n", r"a\.csv:3: has 3 columns, the header 2"),
        ("a.csv", b'text,label\n"a,b\n', r"a\.csv:2: is not CSV: unexpected end of data"),
        ("a.json", b'[{"text": "x"},\n 5]', r"a\.json: element 2 is not a JSON object"),
        ("a.json", b'[{"text": "x"},\n', r"a\.json:2: is not JSON"),
        ("a.json", b'{"data": [\n{"text": "x"},\n5]}', r"a\.json: element 2 is not a JSON object"),
        ("a.json", b'{"text":\n oops}', r"a\.json:2: is not JSON: .* at character 2"),
        ("a.gz", gzip.compress(b'{"text": "x"}\n' * 999, mtime=0)[:-20], r"a\.gz: is cut short"),
        ("a", b"ham\tx\nno tab\n", r'a:2: is neither .* nor "label TAB text"'),
        ("a.parquet", b"PAR1 and then nothing", r"a\.parquet: cannot be read after row 0"),
        ("a.jsonl", '{"text": "x"}'.encode("utf-16")[:-1], r"a\.jsonl: is not UTF-16"),
        ("a.jsonl", b"\x00\x01\x02binary", r"a\.jsonl: is not UTF-16: .*, if it is text"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line_with_its_place(name: str, content: bytes, why: str) -> None:
    with pytest.raises(DataError, match=why) as raised:
        rows(name, content)

    assert "\n" not in str(raised.value)


def test_a_missing_pyarrow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)

    with pytest.raises(DataError, match=r"a\.parquet: reading it needs pyarrow: pip install"):
        rows("a.parquet", b"PAR1")


@pytest.mark.parametrize(
    ("read", "row"),
    [
        (read_chats, {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "a\ud800"}]}),
        (read_labelled, {"text": "a", "label": "\udfff"}),
        (read_preferences, {"prompt": "?", "chosen": "a", "rejected": "\udc00é"}),
        (read_query_pairs, {"query": "?", "text": "a", "group": {"of": ["\ud800"]}}),
    ],
)
def test_half_a_surrogate_pair_is_refused_by_every_reader(
    tmp_path: Path, read: Callable[[Path], Any], row: dict[str, Any]
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n" + json.dumps(row) + "\n")

    with pytest.raises(DataError, match=r"a\.jsonl:2: has half of a surrogate pair"):
        read(path)
