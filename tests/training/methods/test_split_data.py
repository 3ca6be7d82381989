"""Which files a manifest names for each side."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from training.data import check_disjoint, read_chats, split_heldout
from training.data.labelled import label_names
from training.errors import DataError
from training.methods.labels import read_data
from training.methods.plain_text import read_text
from training.methods.split_data import read_split
from training.outcome import Context
from training.recipes.classify import LabelledData
from training.recipes.sections import ChatData
from training.registry import DataDigest, Registry


@pytest.fixture
def context(tmp_path: Path, store: Registry) -> Context:
    def find_model(ref: str) -> None:
        raise AssertionError(ref)

    return Context(
        recipe_path=tmp_path / "recipe.yaml", home=tmp_path, registry=store, find_model=find_model, show=False
    )  # type: ignore[arg-type]


def write_chats(path: Path, first: int, count: int) -> None:
    path.parent.mkdir(exist_ok=True)
    chats = [
        {"messages": [{"role": "user", "content": f"Open {number}?"}, {"role": "assistant", "content": "Yes."}]}
        for number in range(first, first + count)
    ]
    path.write_text("".join(json.dumps(chat) + "\n" for chat in chats))


def roles(digests: list[DataDigest]) -> dict[tuple[str, str], int]:
    return {(digest.name, digest.role): digest.rows for digest in digests}


def test_each_file_of_a_folder_is_named_with_the_rows_of_each_side(tmp_path: Path, context: Context) -> None:
    write_chats(tmp_path / "chats/a.jsonl", 0, 30)
    write_chats(tmp_path / "chats/b.jsonl", 30, 20)

    chats = read_split(
        ChatData(train=Path("chats"), heldout_fraction=0.3), context, read_chats, split_heldout, check_disjoint
    )

    sides = {"train": chats.train, "heldout": chats.heldout}
    assert roles(chats.digests) == {
        (f"chats/{name}", side): count
        for side, kept in sides.items()
        for name, count in Counter(Path(chat.source.rpartition(":")[0]).name for chat in kept).items()
    }
    assert len(chats.digests) == 4


def test_what_is_held_out_may_be_a_folder_and_lies_outside(tmp_path: Path, context: Context) -> None:
    write_chats(tmp_path / "a.jsonl", 0, 4)
    write_chats(tmp_path / "held/b.jsonl", 4, 2)
    settings = ChatData(train=Path("a.jsonl"), heldout=Path("held"))

    chats = read_split(settings, context, read_chats, split_heldout, check_disjoint)

    assert roles(chats.digests) == {("a.jsonl", "train"): 4, ("held/b.jsonl", "heldout"): 2}
    write_chats(tmp_path / "held/c.jsonl", 0, 1)
    with pytest.raises(DataError, match=r"c\.jsonl:1: is held out, but .*a\.jsonl:1 trains on the same chat"):
        read_split(settings, context, read_chats, split_heldout, check_disjoint)


def test_the_end_of_a_folder_of_texts_is_held_out(tmp_path: Path, context: Context) -> None:
    (tmp_path / "texts").mkdir()
    for name in "abc":
        (tmp_path / f"texts/{name}.txt").write_text(name * 100)

    text = read_text(ChatData(train=Path("texts"), heldout_fraction=0.5), context)

    assert (text.train, text.heldout) == (["a" * 100, "b" * 50], ["b" * 50, "c" * 100])
    assert roles(text.digests) == {
        ("texts/a.txt", "train"): 1,
        ("texts/b.txt", "train"): 1,
        ("texts/b.txt", "heldout"): 1,
        ("texts/c.txt", "heldout"): 1,
    }


def test_labelled_texts_come_from_a_folder_too(tmp_path: Path, context: Context) -> None:
    (tmp_path / "labelled").mkdir()
    for name in "ab":
        rows = [{"text": f"{name} {number}", "label": "xy"[number % 2]} for number in range(20)]
        (tmp_path / f"labelled/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    data = read_data(
        LabelledData(train=Path("labelled"), heldout_fraction=0.3), context, lambda texts, _: label_names(texts), True
    )

    rows = roles(data.digests)
    assert {name for name, _ in rows} == {"labelled/a.jsonl", "labelled/b.jsonl"}
    assert sum(rows[name, "train"] for name in ("labelled/a.jsonl", "labelled/b.jsonl")) == len(data.train)
