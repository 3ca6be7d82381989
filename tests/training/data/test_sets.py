"""Data sets named where a file may be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from signet import cli
from training.data.sets import find_heldout
from training.errors import SourceError
from training.registry import CheckpointChanged, ManifestDraft, Registry, UnknownCheckpoint


@pytest.fixture
def chats(tiny: Registry, tmp_path: Path, write_chats: Callable[..., Path]) -> Registry:
    """The registry with a data set `chats@1` beside the tiny model, and `whole@1` that holds nothing out."""
    train = write_chats("train.jsonl", [("How are you?", "Well.")])
    heldout = write_chats("heldout.jsonl", [("Is it open?", "Yes, until ten."), ("And now?", "No.")])
    for name, files in (("chats", (train, heldout)), ("whole", (train,))):
        folder = tmp_path / name
        folder.mkdir()
        for file in files:
            (folder / file.name).write_bytes(file.read_bytes())
        tiny.register(folder, name, ManifestDraft(kind="data"))
    return tiny


def test_a_model_is_measured_on_what_a_data_set_holds_out(
    chats: Registry, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNET_HOME", str(home))

    def evaluate(data: str) -> dict[str, object]:
        done = CliRunner().invoke(cli, ["evaluate", "tiny", "--data", data, "--json"])
        assert done.exit_code == 0, done.output
        found: dict[str, object] = json.loads(done.stdout)
        return found

    named, file = evaluate("chats"), evaluate(str(tmp_path / "heldout.jsonl"))
    assert named | {"data": ""} == file | {"data": ""}
    assert (named["data"], evaluate("chats@1/train.jsonl")["chats"]) == ("chats@1/heldout.jsonl", 1)


def test_what_names_no_such_file_is_said(chats: Registry) -> None:
    assert find_heldout(Path("missing.jsonl"), chats) == (Path("missing.jsonl"), "missing.jsonl")
    with pytest.raises(SourceError, match=r"the data set whole@1 has no heldout\.jsonl"):
        find_heldout(Path("whole"), chats)
    with pytest.raises(SourceError, match="is not a data set"):
        find_heldout(Path("tiny"), chats)
    with pytest.raises(UnknownCheckpoint, match="no version 7"):
        find_heldout(Path("chats@7"), chats)
    (chats.root / "chats" / "1" / "heldout.jsonl").write_text("")
    with pytest.raises(CheckpointChanged):
        find_heldout(Path("chats"), chats)
