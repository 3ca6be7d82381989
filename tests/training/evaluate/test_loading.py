import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from training.errors import SourceError
from training.evaluate import Source
from training.evaluate.loading import (
    load_chat_tokenizer,
    load_model,
    padding_token,
    require_language_model,
    stored_dtype,
)
from training.registry import CheckpointRef


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "copy"))


def source(folder: Path) -> Source:
    return Source(folder, CheckpointRef(ref="tiny@1", digest="sha256:" + "0" * 64))


@pytest.mark.skipif(torch.cuda.is_available(), reason="calculates in bf16 there")
def test_cpu_calculates_in_fp32_whatever_is_stored(folder: Path) -> None:
    assert stored_dtype(source(folder)) == torch.bfloat16
    assert load_model(source(folder)).dtype == torch.float32


def test_model_that_cannot_be_loaded_is_one_line(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "no-such-model"}')

    with pytest.raises(SourceError, match=r"tiny@1 cannot be loaded: [^\n]+$"):
        load_model(source(folder))


def test_damaged_weights_are_one_line(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x08\x00")

    with pytest.raises(SourceError, match=r"tiny@1 cannot be loaded: [^\n]+$"):
        load_model(source(folder))


def test_model_without_chat_template_is_said(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()

    with pytest.raises(SourceError, match=r"^tiny@1 has no chat template"):
        load_chat_tokenizer(source(folder))


@pytest.mark.parametrize(
    ("architecture", "is_one"),
    [
        ("LlamaForCausalLM", True),
        ("GPT2LMHeadModel", True),
        ("Gemma3ForConditionalGeneration", True),
        ("LlamaModel", False),
        ("BertModel", False),
        ("BertForMaskedLM", False),
        ("LlamaForSequenceClassification", False),
    ],
)
def test_what_predicts_no_next_token_is_no_language_model(folder: Path, architecture: str, is_one: bool) -> None:
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))

    with nullcontext() if is_one else pytest.raises(SourceError, match="tiny@1 is not a language model: it is a"):
        require_language_model(source(folder))


def test_padding_token_zero_counts_as_one(folder: Path) -> None:
    tokenizer = load_chat_tokenizer(folder)
    assert tokenizer.pad_token_id == 0

    tokenizer.pad_token = "<|im_end|>"
    assert padding_token(tokenizer) == 2
    tokenizer.pad_token = None
    assert padding_token(tokenizer) == 0
