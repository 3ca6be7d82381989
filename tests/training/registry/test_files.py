import hashlib
import os
from pathlib import Path

import pytest

from training.registry.errors import UnusableFolder
from training.registry.files import (
    BUFFER_BYTES,
    hash_files,
    list_files,
    make_readable,
    special_tokens,
    tokenizer_digest,
)


def test_lists_nested_files_without_manifest_and_signature(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.txt", "sub/a.txt", "manifest.json", "manifest.sig"):
        (tmp_path / name).write_text("x")

    assert list_files(tmp_path) == ["b.txt", "sub/a.txt"]


def test_hash_streams_and_reports_progress_over_all_files(tmp_path: Path) -> None:
    content = os.urandom(BUFFER_BYTES + 5)
    (tmp_path / "big").write_bytes(content)
    (tmp_path / "small").write_bytes(b"abc")
    seen: list[tuple[str, int, int]] = []

    entries = hash_files(tmp_path, ["big", "small"], lambda *step: seen.append(step))

    total = len(content) + 3
    assert entries["big"].sha256 == hashlib.sha256(content).hexdigest()
    assert entries["big"].size == len(content)
    assert seen == [("big", BUFFER_BYTES, total), ("big", BUFFER_BYTES + 5, total), ("small", total, total)]


def test_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").write_text("x")
    (folder / "model.safetensors").symlink_to(tmp_path / "secret")

    with pytest.raises(UnusableFolder, match=r"model\.safetensors is a link out of the checkpoint"):
        list_files(folder)


def test_linked_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "again").symlink_to(tmp_path / "real")

    with pytest.raises(UnusableFolder, match="again is a link to a folder"):
        list_files(tmp_path)


def test_link_within_the_folder_counts_as_its_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").symlink_to("a")

    entries = hash_files(tmp_path, list_files(tmp_path))

    assert entries["a"] == entries["b"]


def test_dangling_link_and_pipe_are_refused(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to("nothing")
    with pytest.raises(UnusableFolder, match="gone cannot be read"):
        list_files(tmp_path)

    (tmp_path / "gone").unlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnusableFolder, match="pipe is neither a file nor a folder"):
        list_files(tmp_path)


@pytest.mark.parametrize("name", [b"new\nline", b"back\\slash", b"not-\xff-utf8"])
def test_file_names_that_could_mislead_are_refused(tmp_path: Path, name: bytes) -> None:
    Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_text("x")

    with pytest.raises(UnusableFolder, match="cannot be a checkpoint"):
        list_files(tmp_path)


def test_files_that_save_pretrained_hides_become_readable(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir(mode=0o700)
    (tmp_path / "sub" / "model.safetensors").write_text("x")
    (tmp_path / "sub" / "model.safetensors").chmod(0o600)

    make_readable(tmp_path)

    assert (tmp_path / "sub").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "sub" / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_tokenizer_digest_ignores_padding_but_not_the_vocabulary(tmp_path: Path) -> None:
    def digest(text: str) -> str | None:
        (tmp_path / "tokenizer.json").write_text(text)
        return tokenizer_digest(tmp_path)

    plain = digest('{"model": {"vocab": {"a": 0, "b": 1}}, "padding": null, "truncation": null}')
    padded = digest('{"truncation": {"max_length": 5}, "padding": {"x": 1}, "model": {"vocab": {"a": 0, "b": 1}}}')
    swapped = digest('{"model": {"vocab": {"a": 1, "b": 0}}}')

    assert plain == padded
    assert plain != swapped


def test_only_special_added_tokens_are_control_tokens(tmp_path: Path) -> None:
    assert special_tokens(tmp_path) == []

    (tmp_path / "tokenizer.json").write_text(
        '{"added_tokens": [{"content": "<|im_start|>", "special": true}, {"content": "a"}]}'
    )

    assert special_tokens(tmp_path) == ["<|im_start|>"]


def test_broken_tokenizer_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")

    with pytest.raises(UnusableFolder, match=r"tokenizer\.json is not JSON"):
        tokenizer_digest(tmp_path)
