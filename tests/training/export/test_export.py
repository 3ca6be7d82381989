from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from signet import cli
from training.evaluate import resolve_source
from training.evaluate.loading import load_model
from training.registry import ManifestDraft, Registry
from training.registry.manifest import canonical_json
from training.registry.signature import check_signature


@pytest.fixture
def export(tiny: Registry, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SIGNET_HOME", str(home))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["export", *arguments])

    return run


def logits(folder: Path, **loading: Any) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **loading).eval()
    with torch.inference_mode():
        found: torch.Tensor = model(torch.arange(3, 40)[None]).logits
    return found


@pytest.mark.parametrize(("weights", "most"), [("f32", 1e-5), ("bf16", 1e-5), ("f16", 1e-2), ("q8_0", 0.1)])
def test_another_reader_of_gguf_answers_as_the_checkpoint_does(
    export: Any, tiny: Registry, tmp_path: Path, weights: str, most: float
) -> None:
    done = export("tiny", "--to", "gguf", "--weights", weights, "--json")

    assert done.exit_code == 0, done.output
    folder = tmp_path / "tiny-1-gguf"
    with torch.inference_mode():
        expected = (
            load_model(resolve_source("tiny", tiny, False), torch.float32).eval()(torch.arange(3, 40)[None]).logits
        )
    found = logits(folder, gguf_file="model.gguf")
    assert float((found - expected).abs().max() / expected.abs().max()) <= most


def test_the_file_says_tokens_and_template(export: Any, tiny: Registry, tmp_path: Path) -> None:
    from gguf import GGUFReader, TokenType

    assert export("tiny", "--to", "gguf").exit_code == 0

    fields = GGUFReader(tmp_path / "tiny-1-gguf" / "model.gguf").fields
    assert fields["tokenizer.ggml.model"].contents() == "gpt2"
    assert fields["tokenizer.ggml.pre"].contents() == "gpt-2"
    assert fields["tokenizer.ggml.tokens"].contents()[:3] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert fields["tokenizer.ggml.token_type"].contents()[1:4] == [
        TokenType.CONTROL,
        TokenType.CONTROL,
        TokenType.NORMAL,
    ]
    assert fields["tokenizer.ggml.eos_token_id"].contents() == 2
    assert "<|im_start|>assistant" in fields["tokenizer.chat_template"].contents()
    assert fields["signet.digest"].contents() == tiny.resolve("tiny").digest


def test_the_statements_travel_along_and_are_signed(export: Any, tiny: Registry, tmp_path: Path) -> None:
    assert export("tiny", "--to", "gguf", "--output", "out/here").exit_code == 0

    folder = tmp_path / "out" / "here"
    checkpoint = tiny.resolve("tiny")
    for name in ("manifest.json", "manifest.sig"):
        assert (folder / name).read_bytes() == (checkpoint.path / name).read_bytes()
    facts = json.loads((folder / "export.json").read_bytes())
    assert facts["digest"] == checkpoint.digest
    assert facts["files"]["model.gguf"]["size"] == (folder / "model.gguf").stat().st_size
    check_signature(canonical_json(facts), (folder / "export.sig").read_bytes(), tiny.keys.trusted())


def test_a_characters_model_and_its_experts(export: Any, tiny: Registry, tmp_path: Path) -> None:
    """Mixtral-shaped, a token for each character: all experts of a layer become one tensor."""
    from gguf import GGUFReader
    from transformers import MixtralConfig, MixtralForCausalLM

    from training.tokenizer.characters import characters_tokenizer, save_characters

    folder = tmp_path / "experts"
    config = MixtralConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=4, max_position_embeddings=64, sliding_window=None,
    )  # fmt: skip
    MixtralForCausalLM(config).save_pretrained(folder)
    save_characters(characters_tokenizer(["to be or not"]), folder)
    tiny.register(folder, "experts", ManifestDraft(kind="base"))

    done = export("experts", "--to", "gguf")

    assert done.exit_code == 0, done.output
    reader = GGUFReader(tmp_path / "experts-1-gguf" / "model.gguf")
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    assert reader.fields["tokenizer.ggml.model"].contents() == "llama"
    assert "\u2581" in tokens
    assert " " not in tokens
    assert len(tokens) == 300
    (stacked,) = (tensor for tensor in reader.tensors if "ffn_gate_exps" in tensor.name)
    assert list(stacked.shape) == [32, 64, 4]


def test_a_file_that_reads_back_otherwise_is_not_left(
    export: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.export import to_gguf

    monkeypatch.setattr(to_gguf, "dequantize", lambda data, kind: data.view("float32") * 1.01)
    done = export("tiny", "--to", "gguf", "--weights", "f32")

    assert done.exit_code == 1
    assert "reads back differently" in done.output
    assert not [path for path in tmp_path.iterdir() if "gguf" in path.name or path.name.startswith(".export")]


def test_what_cannot_leave_says_why_in_a_line(
    export: Any, tiny: Registry, tiny_model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    assert "exists already" in export("tiny", "--to", "gguf", "--output", "taken").output
    for change, why in (
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel is not one of"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "positions of the kind yarn"),
        ({"sliding_window": 16}, "this one attends to 16"),
        ({"quantization_config": {}}, "is quantized"),
    ):
        folder = tmp_path / "changed"
        shutil.copytree(tiny_model_folder, folder)
        config = json.loads((folder / "config.json").read_bytes())
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        tiny.register(folder, "changed", ManifestDraft(kind="base"))

        done = export("changed", "--to", "gguf")

        assert (done.exit_code, why in done.output) == (1, True), done.output
        assert not (tmp_path / "changed-1-gguf").exists()


@pytest.mark.filterwarnings("default")  # of the exporter itself
def test_onnx_asks_for_its_packages(export: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is written is tried in a browser (test_web.py).
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find_spec(name))

    done = export("tiny", "--to", "onnx", "--json")

    assert done.exit_code == 1
    assert "pip install onnx onnxscript onnxruntime" in done.output
