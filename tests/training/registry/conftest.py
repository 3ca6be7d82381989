from collections.abc import Callable
from pathlib import Path

import pytest

from training.registry import Registry

TOKENIZER = '{"added_tokens": [{"content": "<|im_end|>", "special": true}]}'

TOKENIZER = '{"added_tokens": [{"content": "<|im_end|>", "special": true}]}'


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home" / "registry", tmp_path / "home" / "keys")


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """A factory of folders that look like a model's, with the given weights."""
    made = iter(range(1000))

    def make(weights: bytes = b"weights") -> Path:
        folder = tmp_path / f"made-{next(made)}"
        (folder / "sub").mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "config.json").write_text("{}")
        (folder / "sub" / "extra.json").write_text("{}")
        (folder / "tokenizer.json").write_text(TOKENIZER)
        (folder / "model.safetensors").chmod(0o600)
        return folder

    return make
