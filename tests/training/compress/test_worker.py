from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from training.compress.errors import NotQuantizable
from training.compress.process import run_worker
from training.compress.quantize import WORKER
from training.compress.schemes import parse_scheme
from training.compress.worker import TOKENS_AT_ONCE, Refused, batched, choose_kept, group_size_for, rounding_error

Run = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("widths", "asked", "size"),
    [((576, 1536), None, 64), ((96, 64), None, 32), ((64,), None, 64), ((576, 1536), 32, 32)],
    ids=["64", "only-32", "equal", "asked"],
)
def test_the_largest_group_size_that_divides_all_columns(widths: tuple[int, ...], asked: int | None, size: int) -> None:
    assert group_size_for({f"layer{index}": width for index, width in enumerate(widths)}, asked) == size


@pytest.mark.parametrize(("asked", "why"), [(None, "64 or 32 divides the 80"), (128, "128 divides the 64")])
def test_columns_that_no_group_fits_are_refused_by_name(asked: int | None, why: str) -> None:
    with pytest.raises(Refused, match=why):
        group_size_for({"mlp.up": 64, "mlp.down": 80}, asked)


def test_what_is_kept_in_8_bits_costs_most_for_each_weight_and_goes_with_what_it_is_fused_to() -> None:
    sizes = {
        "0.self_attn.q_proj": 100, "0.self_attn.k_proj": 50, "0.self_attn.v_proj": 50, "0.self_attn.o_proj": 100,
        "0.mlp.down_proj": 600, "1.mlp.down_proj": 100,
    }  # fmt: skip
    costs = {"0.self_attn.k_proj": 90.0, "0.self_attn.o_proj": 40.0, "0.mlp.down_proj": 600.0, "1.mlp.down_proj": 1.0}

    # The largest cost a weight has `down_proj`, which is too large for the share.
    assert choose_kept(costs, sizes, 0.2) == ["0.self_attn.k_proj", "0.self_attn.q_proj", "0.self_attn.v_proj"]
    assert "0.mlp.down_proj" in choose_kept(costs, sizes, 0.6)
    assert choose_kept(costs, sizes, 0.01) == []


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_rounding_error_is_within_half_a_step(symmetric: bool) -> None:
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))

    error = rounding_error(weight, symmetric, 32)

    groups = weight.unflatten(1, (-1, 32))
    spread = 2 * groups.abs().amax(-1) if symmetric else groups.amax(-1) - groups.amin(-1)
    assert 0 < error.abs().max() <= 0.51 * (spread / 15).max()
    assert rounding_error(torch.zeros(2, 32), symmetric, 32).abs().max() == 0


def test_batches_hold_every_text_once_and_no_more_tokens_than_fit_into_memory() -> None:
    lengths = sorted([*range(3, 400, 7), 2 * TOKENS_AT_ONCE])

    found = list(batched(lengths))

    assert [place for start, end in found for place in range(start, end)] == list(range(len(lengths)))
    assert found[-1] == (len(lengths) - 1, len(lengths))
    assert all((end - start) * lengths[end - 1] <= TOKENS_AT_ONCE for start, end in found[:-1])
    assert len(found) < len(lengths) / 3
    assert list(batched([])) == []


@pytest.fixture
def run(compressor_python: Path, tiny_model_folder: Path, tmp_path: Path) -> Run:
    """The real worker on the tiny model."""
    (tmp_path / "target").mkdir()

    def run_job(scheme: str, source: Path = tiny_model_folder, **told: Any) -> dict[str, Any]:
        example = {"input_ids": list(range(3, 67)), "labels": [-100] * 10 + list(range(13, 67))}
        shorter = {"input_ids": list(range(3, 40)), "labels": [-100] * 10 + list(range(13, 40))}
        job = {
            "source": str(source),
            "target": str(tmp_path / "target"),
            "scheme": parse_scheme(scheme).as_job(),
            "calibration": [[(3 + 7 * row * column) % 250 for column in range(64)] for row in range(1, 9)],
            "evaluation": {"chats": [example, shorter], "more": [example]},
            **told,
        }
        return run_worker([str(compressor_python), "-I", str(WORKER)], job, tmp_path / "worker.log")

    return run_job


def stored_types(folder: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        return {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118


@pytest.mark.slow
def test_w8a8_stores_bytes_and_leaves_the_output_layer(run: Run, tmp_path: Path, tiny_model_folder: Path) -> None:
    from safetensors.torch import load_file

    from training.data import Example
    from training.evaluate.loading import load_model
    from training.evaluate.perplexity import total_loss
    from training.evaluate.source import Source
    from training.registry import CheckpointRef

    result = run("w8a8")

    types = stored_types(tmp_path / "target")
    assert types["model.layers.0.mlp.up_proj.weight"] == "I8"
    assert types["model.layers.0.mlp.up_proj.weight_scale"] == types["model.norm.weight"] == "BF16"
    assert types["lm_head.weight"] == "BF16"
    assert result["settings"] == {"smoothing_strength": 0.8, "gated_smoothing_strength": 0.5}
    # One scale of 16 bits for each row of at least 32 weights.
    assert 8.2 < result["bits"]["matrices"] < 8.6
    assert result["bits"]["source"] == 16
    assert result["peak_bytes"] > 100e6
    # Rounding to 8 bits moves it, and little.
    before, after = (result[when]["chats"] + result[when]["more"] for when in ("before", "after"))
    assert before != after == pytest.approx(before, rel=0.2)
    # The spread of what `down_proj` reads is in its columns now, and out of the rows of `up_proj`.
    stored, source = (load_file(folder / "model.safetensors") for folder in (tmp_path / "target", tiny_model_folder))
    down = "model.layers.0.mlp.down_proj.weight"
    columns = (stored[down] * stored[f"{down}_scale"]).norm(dim=0) / source[down].float().norm(dim=0)
    assert columns.max() > 1.2 * columns.min()
    # And it is what `signet evaluate` measures.
    model = load_model(Source(tiny_model_folder, CheckpointRef(ref="tiny", digest="sha256:" + "0" * 64)))
    whole, shorter = (Example(list(range(3, end)), [-100] * 10 + list(range(13, end)), "here") for end in (67, 40))
    assert before == pytest.approx([total_loss(model, [row], 0) for row in (whole, shorter, whole)], rel=1e-4)


@pytest.mark.slow
def test_gptq_packs_weights_in_groups_that_fit(run: Run, tmp_path: Path) -> None:
    result = run("gptq", before=False)

    types = stored_types(tmp_path / "target")
    assert types["model.layers.0.mlp.up_proj.weight_packed"] == "I32"
    assert types["model.layers.0.mlp.up_proj.weight_scale"] == types["lm_head.weight"] == "BF16"
    assert result["settings"] == {"group_size": 32, "symmetric": True}
    assert result["bits"]["matrices"] == 4 + 16 / 32
    assert (result["before"], len(result["after"]["chats"])) == ({}, 2)
    config = json.loads((tmp_path / "target" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert config["quantization_config"]["ignore"] == ["lm_head"]
    weights = next(iter(config["quantization_config"]["config_groups"].values()))["weights"]
    assert (weights["num_bits"], weights["group_size"], weights["symmetric"]) == (4, 32, True)
    assert not (tmp_path / "target" / "recipe.yaml").exists()


@pytest.mark.slow
def test_awq_before_gptq_with_zero_points_and_what_is_sensitive_in_8_bits(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("awq-gptq-g32-mixed")

    # A tenth of the weights of so small a model is one matrix of attention.
    kept = result["settings"]["eight_bit"]
    assert kept
    types = stored_types(tmp_path / "target")
    assert {types[f"{name}.weight"] for name in kept} == {"I8"}
    assert types["model.layers.0.mlp.up_proj.weight_zero_point"] == "I32"
    assert result["settings"]["awq_samples"] == 8
    assert 4.625 < result["bits"]["matrices"] < 5.5
    groups = json.loads((tmp_path / "target" / "config.json").read_text())["quantization_config"]["config_groups"]
    found = {group["weights"]["num_bits"]: group for group in groups.values()}
    assert found[8]["targets"] == kept
    assert found[8]["input_activations"]["dynamic"] is True
    assert (found[4]["weights"]["symmetric"], found[4]["weights"]["group_size"]) == (False, 32)
    before, after = sum(result["before"]["chats"]), sum(result["after"]["chats"])
    assert after == pytest.approx(before, rel=0.3)


@pytest.mark.slow
def test_a_model_that_fits_no_group_is_refused(run: Run, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=259, hidden_size=48, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "narrow")

    with pytest.raises(NotQuantizable, match="divides the 48 columns"):
        run("gptq", tmp_path / "narrow")
