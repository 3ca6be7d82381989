from __future__ import annotations

from pathlib import Path

import pytest

from training.compress.data import WINDOW_TOKENS, Data, DataSelection, cut_windows, prepare
from training.data import Example
from training.errors import DataError
from training.registry import Registry


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text("".join(f"Sentence number {number} is here. " for number in range(2000)))
    return path


def prepared(registry: Registry, selection: DataSelection) -> Data:
    return prepare(registry.resolve("tiny@1"), selection, show_progress=False)


def test_a_plain_text_calibrates_and_its_end_is_held_out(tiny: Registry, text: Path) -> None:
    data = prepared(tiny, DataSelection(text, samples=8, heldout_tokens=2048))

    assert [len(window) for window in data.windows] == [WINDOW_TOKENS] * 8
    assert [len(example.input_ids) for example in data.sets["book"]] == [512] * 4
    assert [digest.role for digest in data.digests] == ["calibration", "heldout"]
    length = len(text.read_text())  # the tiny model's tokens are bytes
    assert len(prepared(tiny, DataSelection(text, samples=10**6)).windows) == length * 3 // 4 // WINDOW_TOKENS


def test_a_text_that_is_calibrated_on_is_not_measured_on_as_well(tiny: Registry, text: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.txt"
    copy.write_bytes(text.read_bytes())

    with pytest.raises(DataError, match=r"copy\.txt: is the calibration file"):
        prepared(tiny, DataSelection(text, heldout=(copy,)))


def test_sets_of_one_name_are_told_apart_or_refused(tiny: Registry, text: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "book.txt"
    other.write_text("Another book. " * 100)
    task = tmp_path / "task.txt"
    task.write_text("A task. " * 100)

    for twice in ((text, other), (task,)):
        with pytest.raises(DataError, match="another set is called"):
            prepared(tiny, DataSelection(heldout=twice))


def test_a_text_of_one_token_cannot_be_measured_on(tiny: Registry, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("a")

    with pytest.raises(DataError, match=r"short\.txt: has too little text"):
        prepared(tiny, DataSelection(heldout=(tmp_path / "short.txt",)))


def test_windows_of_chats_are_whole_as_far_as_there_are_any() -> None:
    chat = Example(list(range(WINDOW_TOKENS // 2 + 10)), [], "here")

    assert [len(window) for window in cut_windows([chat] * 4, 9)] == [WINDOW_TOKENS] * 2
    assert len(cut_windows([chat] * 40, 9)) == 9
    assert cut_windows([chat], 9) == [chat.input_ids]
