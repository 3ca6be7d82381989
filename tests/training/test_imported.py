from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from click.testing import CliRunner

from training.errors import SourceError
from training.imported import import_model
from training.registry import Checkpoint, Registry, UnusableFolder
from training.registry_cli import registry as commands

Import = Callable[..., Checkpoint]


@pytest.fixture
def model(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return shutil.copytree(tiny_model_folder, tmp_path / "model")


@pytest.fixture
def imported(tiny: Registry, home: Path) -> Import:
    def run(folder: Path, name: str = "theirs", license_: str | None = None) -> Checkpoint:
        return import_model(folder, name, license_, home, tiny, show_progress=False)

    return run


def change(folder: Path, **facts: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | facts))


def test_a_model_is_copied_and_signed_without_what_could_run(imported: Import, model: Path, tiny: Registry) -> None:
    (model / "pytorch_model.bin").write_bytes(b"pickle")
    (model / "modeling_tiny.py").write_text("raise SystemExit")
    (model / ".cache").write_text("x")
    before = sorted(path.name for path in model.iterdir())

    checkpoint = imported(model, license_="MIT")

    assert checkpoint.ref == "theirs@1"
    assert (checkpoint.manifest.kind, checkpoint.manifest.license) == ("base", "MIT")
    tiny.verify(checkpoint)
    names = {path.name for path in checkpoint.path.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names
    assert not names & {"pytorch_model.bin", "modeling_tiny.py", ".cache"}
    assert sorted(path.name for path in model.iterdir()) == before
    assert imported(model).ref == "theirs@2"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_an_old_checkpoint_says_in_its_config_how_it_is_quantized(
    method: Literal["gptq", "awq"], imported: Import, model: Path, tmp_path: Path, tiny: Registry
) -> None:
    from tests.support.old_layouts import GROUP, write_old

    write_old(model, tmp_path / "old", method)

    checkpoint = imported(tmp_path / "old", f"tiny-{method}")

    tiny.verify(checkpoint)
    assert checkpoint.manifest.kind == "quantized"
    stated = json.loads((checkpoint.path / "config.json").read_text())["quantization_config"]
    assert (stated["quant_method"], stated["bits"], stated["group_size"]) == (method, 4, GROUP)
    # As AutoGPTQ's later versions wrote it, it is taken as it stands.
    again = imported(checkpoint.path, "again")
    assert json.loads((again.path / "config.json").read_text())["quantization_config"] == stated


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_the_engine_computes_with_old_weights(
    method: Literal["gptq", "awq"], imported: Import, model: Path, tmp_path: Path
) -> None:
    """vLLM's own reading of the configuration and of one layer, without a whole engine."""
    pytest.importorskip("vllm")
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import (
        cleanup_dist_env_and_memory,
        init_distributed_environment,
        initialize_model_parallel,
    )
    from vllm.model_executor.layers.linear import ReplicatedLinear
    from vllm.model_executor.layers.quantization import get_quantization_config

    from serving.engine.processor import lacks_avx512
    from tests.support.old_layouts import unpacked, write_old

    if lacks_avx512():
        pytest.skip("vLLM's kernel for 4-bit weights needs AVX-512")
    write_old(model, tmp_path / "old", method)
    folder = imported(tmp_path / "old", f"tiny-{method}").path
    name = "model.layers.1.mlp.up_proj"
    tensors = load_file(next(folder.glob("*.safetensors")))
    stored = {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
    config = AutoConfig.from_pretrained(folder).quantization_config
    reader = get_quantization_config(config["quant_method"]).from_config(config)
    reader.maybe_update_config(str(folder))
    inputs = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    with set_current_vllm_config(VllmConfig()):
        init_distributed_environment(1, 0, f"file://{tmp_path / 'group'}", 0, "gloo")
        initialize_model_parallel(1, 1)
        try:
            layer = ReplicatedLinear(
                32, 64, bias=False, quant_config=reader, params_dtype=torch.float16, prefix=name, disable_tp=True
            )
            for key, parameter in layer.named_parameters():
                parameter.weight_loader(parameter, stored[key])
            layer.quant_method.process_weights_after_loading(layer)
            computed = layer(inputs.half())[0].float()
        finally:
            cleanup_dist_env_and_memory()

    expected = inputs @ unpacked(stored, method)
    assert (computed - expected).abs().max() < 0.005 * expected.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "changes", "why"),
    [
        ("gptq", {"desc_act": True}, "no longer reads GPTQ whose groups follow the order of activations"),
        ("gptq", {"sym": False}, "no GPTQ with zero points"),
        ("gptq", {"bits": 3}, "not of 3"),
        ("gptq", {"bits": None}, "states no bits and group_size"),
        ("awq", {"version": "GEMV"}, "not in gemv"),
        ("awq", {"w_bit": 3}, "not of 3"),
    ],
)
def test_what_the_engine_cannot_read_is_refused_with_the_way_out(
    method: Literal["gptq", "awq"], changes: dict[str, Any], why: str, imported: Import, model: Path, tmp_path: Path
) -> None:
    from tests.support.old_layouts import write_old

    write_old(model, tmp_path / "old", method, **changes)

    with pytest.raises(SourceError, match=why):
        imported(tmp_path / "old")


def break_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x10")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda folder: (folder / "config.json").unlink(), "is not a model: it has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "config.json").write_text("[]"), "holds no JSON object"),
        (lambda folder: change(folder, architectures=["BertModel"]), "is not a language model"),
        (lambda folder: change(folder, quantization_config=4), "quantization_config is not a JSON object"),
        (lambda folder: change(folder, quantization_config={"quant_method": "awq"}), "has no weights of that kind"),
        (lambda folder: (folder / "quantize_config.json").write_text("{"), "quantize_config.json cannot be read"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "is an adapter"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "model.bin"), "pickled weights can run code"),
        (break_weights, "model.safetensors cannot be read"),
    ],
)
def test_what_is_no_model_is_told_and_nothing_is_left(
    spoil: Callable[[Path], Any], why: str, imported: Import, model: Path, tiny: Registry, home: Path
) -> None:
    spoil(model)

    with pytest.raises(SourceError, match=why):
        imported(model)

    assert [listed.ref for listed in tiny.list()] == ["tiny@1"]
    assert not list((home / "cache").glob("*"))


def test_a_name_that_the_registry_refuses_is_told_first(imported: Import, model: Path) -> None:
    with pytest.raises(UnusableFolder, match="is not a checkpoint name"):
        imported(model, "Not A Name")


def test_the_command(model: Path, home: Path, tiny: Registry) -> None:
    context: dict[str, Any] = {"obj": lambda: SimpleNamespace(home=home)}
    shown = CliRunner().invoke(commands, ["import", str(model), "--name", "theirs"], **context)
    assert shown.exit_code == 0, shown.output
    assert f"theirs@1: imported from {model}, base\nServe it:   signet serve --model theirs@1\n" in shown.stdout

    shown = CliRunner().invoke(commands, ["import", str(model / "none"), "--name", "theirs"], **context)
    assert shown.exit_code == 2
