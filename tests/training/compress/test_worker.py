from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.compress.errors import NotQuantizable
from training.compress.process import run_worker
from training.compress.quantize import WORKER
from training.compress.worker import Refused, common_group_size

Run = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("widths", "size"), [((576, 1536), 64), ((96, 64), 32), ((64,), 64)], ids=["64", "only-32", "equal"]
)
def test_the_largest_group_size_that_divides_all_columns(widths: tuple[int, ...], size: int) -> None:
    assert common_group_size({f"layer{index}": width for index, width in enumerate(widths)}) == size


def test_columns_that_no_group_size_divides_are_refused() -> None:
    with pytest.raises(Refused, match=r"divides the 80 columns of mlp\.down: use the scheme w8a8"):
        common_group_size({"mlp.up": 64, "mlp.down": 80})


@pytest.fixture
def run(compressor_python: Path, tiny_model_folder: Path, tmp_path: Path) -> Run:
    """The real worker on the tiny model."""
    (tmp_path / "target").mkdir()

    def run_job(scheme: str, source: Path = tiny_model_folder) -> dict[str, Any]:
        examples = [{"input_ids": list(range(3, 67)), "labels": [-100] * 10 + list(range(13, 67))}] * 2
        job = {
            "source": str(source),
            "target": str(tmp_path / "target"),
            "scheme": scheme,
            "calibration": [[(3 + 7 * row * column) % 250 for column in range(64)] for row in range(1, 9)],
            "evaluation": examples,
        }
        return run_worker([str(compressor_python), "-I", str(WORKER)], job, tmp_path / "worker.log")

    return run_job


def stored_types(folder: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        return {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118


@pytest.mark.slow
def test_w8a8_stores_bytes_and_leaves_the_output_layer(run: Run, tmp_path: Path) -> None:
    result = run("w8a8")

    types = stored_types(tmp_path / "target")
    assert types["model.layers.0.mlp.up_proj.weight"] == "I8"
    assert types["lm_head.weight"] == "BF16"
    assert result["settings"] == {"smoothing_strength": 0.8}
    assert result["tokens"] == 2 * 54
    assert 1 < result["perplexity_before"] < math.inf
    # Rounding to 8 bits moves it, and little.
    assert result["perplexity_after"] != result["perplexity_before"]
    assert result["perplexity_after"] == pytest.approx(result["perplexity_before"], rel=0.2)


@pytest.mark.slow
def test_w4_packs_weights_in_groups_that_fit(run: Run, tmp_path: Path) -> None:
    result = run("w4a16-gptq")

    assert stored_types(tmp_path / "target")["model.layers.0.mlp.up_proj.weight_packed"] == "I32"
    assert result["settings"] == {"group_size": 32}
    config = json.loads((tmp_path / "target" / "config.json").read_text())["quantization_config"]
    assert config["ignore"] == ["lm_head"]
    weights = next(iter(config["config_groups"].values()))["weights"]
    assert (weights["num_bits"], weights["group_size"], weights["symmetric"]) == (4, 32, True)
    assert not (tmp_path / "target" / "recipe.yaml").exists()


@pytest.mark.slow
def test_the_perplexity_before_is_that_of_evaluate(run: Run, tiny_model_folder: Path) -> None:
    from training.data import Example
    from training.evaluate.loading import load_model
    from training.evaluate.perplexity import measure_perplexity
    from training.evaluate.source import Source
    from training.registry import CheckpointRef

    examples = [Example(list(range(3, 67)), [-100] * 10 + list(range(13, 67)), "here")] * 2
    source = Source(tiny_model_folder, CheckpointRef(ref="tiny", digest="sha256:" + "0" * 64))
    measured = measure_perplexity(load_model(source), examples, 0)

    assert run("w8a8")["perplexity_before"] == pytest.approx(measured.value, rel=1e-4)


@pytest.mark.slow
def test_a_model_that_fits_no_group_is_refused(run: Run, tmp_path: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=259, hidden_size=48, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "narrow")

    with pytest.raises(NotQuantizable, match="divides the 48 columns"):
        run("w4a16-gptq", tmp_path / "narrow")
