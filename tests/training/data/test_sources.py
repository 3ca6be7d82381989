"""Files and folders that recipes name as data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.data import read_chats
from training.data.labelled import read_labelled
from training.data.pairs import read_preferences, read_query_pairs
from training.data.sources import files_of, side_of
from training.data.texts import holds_texts, read_texts
from training.errors import DataError

CHAT = {"messages": [{"role": "user", "content": "Open?"}, {"role": "assistant", "content": "Yes."}]}
PREFERENCE = {"prompt": "Open?", "chosen": "Yes.", "rejected": "No."}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A folder of files: a text, bytes, or rows of JSON lines each."""

    def write(files: dict[str, Any]) -> Path:
        folder = tmp_path / "data"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            lines = "".join(json.dumps(row) + "\n" for row in content) if isinstance(content, list) else content
            (folder / name).write_text(lines)
        return folder

    return write


def test_a_folders_files_come_in_the_order_of_their_paths(write: Write) -> None:
    names = [
        "data/train-00000-of-00001.jsonl",
        "data/test-00000.jsonl",
        "README.md",
        ".git/x.jsonl",
        "a/b.txt",
        "c.pdf",
    ]
    folder = write(dict.fromkeys(names, "x"))

    files = files_of(folder)

    assert [file.relative_to(folder).as_posix() for file in files] == [
        "a/b.txt", "data/test-00000.jsonl", "data/train-00000-of-00001.jsonl"]  # fmt: skip
    assert [side_of(file, folder) for file in files] == [None, "heldout", "train"]


@pytest.mark.parametrize(
    ("read", "row"),
    [
        (read_chats, CHAT),
        (read_labelled, {"text": "a", "label": "x"}),
        (read_preferences, PREFERENCE),
        (read_query_pairs, {"query": "?", "text": "a"}),
        (read_texts, {"text": "a"}),
    ],
)
def test_every_reader_takes_a_folder_and_digests_each_file(write: Write, read: Any, row: dict[str, Any]) -> None:
    folder = write({"b.jsonl": [row], "a/c.jsonl": [row, row], "empty.jsonl": ""})

    file = read(folder)

    assert len(file.items) == 3
    digests = file.digests(Path("data"), "train", {0, 2})
    assert [(digest.name, digest.rows) for digest in digests] == [("data/a/c.jsonl", 1), ("data/b.jsonl", 1)]
    assert [digest.sha256 for digest in digests] == [
        hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("a/c.jsonl", "b.jsonl")
    ]


def test_equal_items_are_told_apart(write: Write) -> None:
    file = read_chats(write({"a.jsonl": [CHAT], "b.jsonl": [CHAT]}))

    assert file.numbers_of([file.items[1]]) == {1}


def test_the_digest_of_a_folder_follows_names_and_contents(write: Write) -> None:
    folder = write({"a.txt": "one", "b.txt": "two"})
    before = read_texts(folder).sha256

    (folder / "b.txt").rename(folder / "c.txt")
    renamed = read_texts(folder).sha256
    (folder / "c.txt").write_text("three")

    assert len({before, renamed, read_texts(folder).sha256}) == 3
    assert read_texts(folder / "a.txt").sha256 == hashlib.sha256(b"one").hexdigest()


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "the folder holds no data files"),
        ({"a.pdf": "x", ".b.jsonl": ""}, "the folder holds no data files"),
        ({"a.jsonl": ""}, "data: holds no chats"),
        ({"a.jsonl": [CHAT], "b/notes.txt": "one"}, "mixes chats (a.jsonl) and texts (b/notes.txt)"),
        ({"a.jsonl": [CHAT], "b.jsonl": [PREFERENCE]}, "mixes chats (a.jsonl) and preferences (b.jsonl)"),
        ({"a.jsonl": [CHAT], "b.csv": "text,label\nx,y\n"}, "mixes chats (a.jsonl) and labelled texts (b.csv)"),
        (
            {"train.jsonl": [CHAT], "test.jsonl": [CHAT]},
            "holds test.jsonl, which is held out by its name, beside train",
        ),
        (
            {"all.jsonl": [CHAT], "test/0.jsonl": [CHAT]},
            "holds test/0.jsonl, which is held out by its name, beside all",
        ),
        ({"a.jsonl": [CHAT], "b.jsonl": "{"}, "b.jsonl:1: is not JSON"),
    ],
)
def test_what_a_folder_cannot_be_is_one_line(write: Write, files: dict[str, Any], why: str) -> None:
    folder = write(files)

    with pytest.raises(DataError) as raised:
        read_chats(folder)

    assert why in str(raised.value)
    assert "\n" not in str(raised.value)


def test_texts_may_be_called_as_they_like(write: Write) -> None:
    folder = write({"test report.txt": "one", "testament.md": "two", "more.jsonl": [{"text": "three"}]})

    assert read_texts(folder).items == ["three", "one", "two"]
    assert holds_texts(folder)


def test_held_out_files_may_be_measured_on(write: Write) -> None:
    assert len(read_chats(write({"test-00000.jsonl": [CHAT], "test-00001.jsonl": [CHAT]})).items) == 2


def test_labels_are_of_one_form_in_all_files(write: Write) -> None:
    folder = write({"a.jsonl": [{"text": "a", "label": "x"}], "b.jsonl": [{"text": "b", "labels": ["x"]}]})

    with pytest.raises(DataError, match=r"b\.jsonl:1: has labels, where the lines before have label"):
        read_labelled(folder)


def test_a_folder_of_chats_in_another_shape_is_no_text(write: Write) -> None:
    assert not holds_texts(write({"a.jsonl": [{"instruction": "Open?", "output": "Yes."}]}))
