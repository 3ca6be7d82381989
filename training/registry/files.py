"""The files of a checkpoint's folder: listing, hashing, and what the tokenizer among them says."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from training.registry.errors import UnusableFolder
from training.registry.manifest import FileEntry, canonical_json, check_file_name, digest_of_files

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"

# Large enough that the time goes into SHA-256 and not into calls, small enough that progress moves.
BUFFER_BYTES = 8 * 1024 * 1024

# (file now read, bytes read so far in the whole folder, bytes in the whole folder)
OnProgress = Callable[[str, int, int], None]


def list_files(folder: Path) -> list[str]:
    """The relative names of all files below `folder`, sorted, without the manifest and its signature.

    Raises UnusableFolder for a link out of the folder, a linked folder, and what is neither file nor folder:
    each would let the content change without a file of the folder changing.
    """
    root = folder.resolve()
    names = [_checked_name(path, folder, root) for path in _walk(folder, root)]
    return sorted(set(names) - {MANIFEST, SIGNATURE})


def hash_files(folder: Path, names: Iterable[str], on_progress: OnProgress | None = None) -> dict[str, FileEntry]:
    """Read every named file once and return its digest and size."""
    names = list(names)
    total = sum((folder / name).stat().st_size for name in names)
    done = 0
    entries = {}
    buffer = memoryview(bytearray(BUFFER_BYTES))
    for name in names:
        digest = hashlib.sha256()
        size = 0
        with (folder / name).open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
                size += count
                if on_progress is not None:
                    on_progress(name, done + size, total)
        done += size
        entries[name] = FileEntry(sha256=digest.hexdigest(), size=size)
    return entries


def digest_folder(folder: Path, on_progress: OnProgress | None = None) -> str:
    """The digest that the folder's files would have as a checkpoint, `sha256:HEX`."""
    return digest_of_files(hash_files(folder, list_files(folder), on_progress))


def make_readable(folder: Path) -> None:
    """Give everyone read access, as a checkpoint holds no secret and engines run as another user.

    `save_pretrained` writes weights with mode 0600.
    """
    for directory, _, files in os.walk(folder):
        os.chmod(directory, 0o755)  # noqa: S103
        for file in files:
            os.chmod(os.path.join(directory, file), 0o644)


def tokenizer_digest(folder: Path) -> str | None:
    """The digest of `tokenizer.json` less its padding and truncation, which serving does not use."""
    tokenizer = _tokenizer(folder)
    if tokenizer is None:
        return None
    mapping = {key: value for key, value in tokenizer.items() if key not in ("padding", "truncation")}
    return "sha256:" + hashlib.sha256(canonical_json(mapping)).hexdigest()


def special_tokens(folder: Path) -> list[str]:
    """The texts that the tokenizer reads as control tokens."""
    added = (_tokenizer(folder) or {}).get("added_tokens") or []
    return sorted({token["content"] for token in added if token.get("special")})


def _tokenizer(folder: Path) -> dict[str, Any] | None:
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise UnusableFolder(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UnusableFolder(f"{path} is not a tokenizer: it holds no JSON object")
    return content


def _walk(folder: Path, root: Path) -> Iterable[Path]:
    for directory, subfolders, files in os.walk(folder):
        for subfolder in subfolders:
            path = Path(directory, subfolder)
            if path.is_symlink():
                raise UnusableFolder(f"{path} is a link to a folder: put the folder itself there")
        for file in files:
            path = Path(directory, file)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise UnusableFolder(f"{path} is a link out of the checkpoint: put the file itself there")
            yield path


def _checked_name(path: Path, folder: Path, root: Path) -> str:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UnusableFolder(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise UnusableFolder(f"{path} is neither a file nor a folder")
    name = path.relative_to(folder).as_posix()
    try:
        # A file's name may be bytes that are not UTF-8, which a manifest cannot hold.
        name.encode()
        return check_file_name(name)
    except ValueError as error:  # UnicodeEncodeError is one
        raise UnusableFolder(f"{root} cannot be a checkpoint: {error}") from None
