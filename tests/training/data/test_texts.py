from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from training.data.texts import check_apart, holds_texts, read_texts, split_end, spread
from training.errors import DataError


def test_a_file_is_one_document_and_a_line_of_json_is_one(tmp_path: Path) -> None:
    plain, lines = tmp_path / "play.txt", tmp_path / "plays.jsonl"
    plain.write_bytes("\ufeffé one\r\ntwo\n".encode())
    chat = '{"messages": [{"role": "user", "content": "Open?"}, {"role": "assistant", "content": "Yes."}]}'
    lines.write_text('{"text": "one"}\n\n{"text": "two\\n", "id": 3}\n{"text": ""}\n' + chat)

    assert read_texts(plain).items == ["é one\r\ntwo\n"]
    assert read_texts(lines).items == ["one", "two\n", "Open?\nYes."]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b'[{"text": "one"}, {"text": "two"}]'),
        ("a.csv", b"text,id\none,1\ntwo,2\n"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "one"}\n{"text": "two"}\n', mtime=0)),
        ("a.jsonl", '{"text": "one"}\n{"text": "two"}\n'.encode("utf-16")),
    ],
    ids=["json", "csv", "gzip", "utf-16"],
)
def test_files_of_rows_are_read_as_for_a_data_set(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)

    assert read_texts(tmp_path / name).items == ["one", "two"]
    assert holds_texts(tmp_path / name)


def test_a_compressed_text_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "play.txt.gz").write_bytes(gzip.compress(b"one\n\ntwo", mtime=0))

    assert read_texts(tmp_path / "play.txt.gz").items == ["one\n\ntwo"]


def test_utf_16_is_read(tmp_path: Path) -> None:
    (tmp_path / "play.txt").write_bytes("être".encode("utf-16"))

    assert read_texts(tmp_path / "play.txt").items == ["être"]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.txt", b"", "a.txt: holds no text"),
        ("a.jsonl", b'{"text": ""}\n', "a.jsonl: holds no text"),
        ("a.txt", b"one\n\xff\xff", "a.txt:2: is not UTF-8"),
        ("a.jsonl", b'{"text": "one"}\n{"text": \n', "a.jsonl:2: is not JSON"),
        ("a.jsonl", b'{"words": "one"}\n', 'a.jsonl:1: is neither {"text": …}'),
        ("a.jsonl", b'["one"]\n', "a.jsonl: element 1 is not a JSON object"),
        ("a.jsonl", b'{"text": "\\ud83d"}\n', "a.jsonl:1: has half of a surrogate pair"),
    ],
)
def test_bad_text_is_one_line_with_its_place(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(DataError) as raised:
        read_texts(tmp_path / name)

    assert why in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_end_is_held_out() -> None:
    assert split_end(["0123456789"], 0.1) == (["012345678"], ["9"])
    assert split_end(["01234", "56789"], 0.2) == (["01234", "567"], ["89"])
    assert split_end(["01234", "56789"], 0.5) == (["01234"], ["56789"])


def test_text_on_both_sides_is_refused() -> None:
    with pytest.raises(DataError, match="1 of its 2 held-out documents are also trained on"):
        check_apart(["one", "two"], ["two", "three"], Path("held.jsonl"))


def test_windows_come_from_all_over_a_text() -> None:
    assert spread(range(100), 10, 5) == [list(range(start, start + 10)) for start in (0, 20, 40, 60, 80)]
    assert len(spread(range(100), 10, 99)) == 10
    assert spread(range(9), 10, 5) == []
