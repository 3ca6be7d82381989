"""GGUF, the format of llama.cpp: a Llama, Mistral or Mixtral with its tokenizer and chat template in one file.

Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Rotary positions turn neighbouring pairs there
and halves in transformers, so rows of queries and keys are put in another order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gguf import (
    MODEL_ARCH,
    GGMLQuantizationType,
    GGUFReader,
    GGUFWriter,
    LlamaFileType,
    get_tensor_name_map,
)
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray
from pydantic import JsonValue

from training.evaluate.source import Source
from training.export.folder import ExportError
from training.export.gguf_tokenizer import add_vocabulary, read_vocabulary
from training.methods.tensor_files import TensorFolder
from training.progress import Track, track

FILE = "model.gguf"

Kind = Literal["f32", "f16", "bf16", "q8_0"]
_TYPES: dict[Kind, tuple[GGMLQuantizationType, LlamaFileType, float]] = {
    # The last: how far weights read back may lie from those that were written, of the largest of their tensor.
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32, 0.0),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16, 2**-11),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16, 2**-8),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0, 1 / 127),
}
_OF_DTYPE: dict[str, Kind] = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_SHAPES = ("LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM")
_EXPERT = ".block_sparse_moe.experts."


def write_gguf(source: Source, folder: Path, kind: Kind | None, show: bool) -> dict[str, JsonValue]:
    """Write the model and read it back; raises ExportError where llama.cpp could not answer as it does."""
    config = _readable_config(source.path)
    kind = kind or _OF_DTYPE.get(str(config.get("dtype", config.get("torch_dtype"))), "f32")
    tensors = TensorFolder(source.path, source.identity.ref)
    path = folder / FILE
    writer = GGUFWriter(path, "llama")
    _describe(writer, source, config, kind)
    add_vocabulary(writer, read_vocabulary(source.path, config["vocab_size"]))
    _add_special(writer, source.path, config)
    for name, values in _named(tensors, config):
        stored = _stored_type(name, values, kind)
        writer.add_tensor(name, quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with track("Checking what was written", show) as progress:
        checked = _check(path, tensors, config, kind, progress)
    return {"weights": kind, "tensors_checked": checked}


def _readable_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    shape = (config.get("architectures") or ["none"])[0]
    if shape not in _SHAPES:
        raise ExportError(f"gguf: {shape} is not one of {', '.join(_SHAPES)}")
    if "quantization_config" in config:
        raise ExportError("gguf: the checkpoint is quantized: export the model that it was made from")
    if config.get("hidden_act", "silu") != "silu" or config.get("attention_bias") or config.get("mlp_bias"):
        raise ExportError("gguf: only Llama models with SiLU and without biases are supported")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", "default") != "default":
        raise ExportError(f"gguf: positions of the kind {rope['rope_type']} are not supported")
    window = config.get("sliding_window")
    if window and window < config["max_position_embeddings"]:
        raise ExportError(f"gguf: llama.cpp lets Llama models attend to all tokens; this one attends to {window}")
    return config


def _describe(writer: GGUFWriter, source: Source, config: dict[str, Any], kind: Kind) -> None:
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or {}
    writer.add_name(source.identity.ref)
    if source.checkpoint is not None and source.checkpoint.manifest.license:
        writer.add_license(source.checkpoint.manifest.license)
    writer.add_string("signet.checkpoint", source.identity.ref)
    writer.add_string("signet.digest", source.identity.digest)
    writer.add_file_type(_TYPES[kind][1])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    if "num_local_experts" in config:
        writer.add_expert_count(config["num_local_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])


def _add_special(writer: GGUFWriter, folder: Path, config: dict[str, Any]) -> None:
    from training.evaluate.loading import load_tokenizer

    tokenizer = load_tokenizer(folder)
    for name, number in (
        ("bos", tokenizer.bos_token_id),
        ("eos", tokenizer.eos_token_id),
        ("unk", tokenizer.unk_token_id),
        ("pad", tokenizer.pad_token_id),
    ):
        if number is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _named(tensors: TensorFolder, config: dict[str, Any]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Every tensor by its name in GGUF, experts of a layer together."""
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    stacked: set[str] = set()
    for name in tensors.layout:
        if name == "lm_head.weight" and config.get("tie_word_embeddings"):
            continue  # llama.cpp takes the input's
        if _EXPERT in name:
            layer, _, rest = name.partition(_EXPERT)
            name = f"{layer}{_EXPERT}{rest.partition('.')[2]}"
            if name in stacked:
                continue
            stacked.add(name)
        gguf_name = names.get_name(name, try_suffixes=(".weight",))
        if gguf_name is None:
            raise ExportError(f"gguf: a Llama has no {name}")
        yield gguf_name, _read(tensors, name, config)


def _read(tensors: TensorFolder, name: str, config: dict[str, Any]) -> NDArray[np.float32]:
    if _EXPERT in name:
        layer, _, rest = name.partition(_EXPERT)
        parts = [tensors[f"{layer}{_EXPERT}{index}.{rest}"] for index in range(config["num_local_experts"])]
        return _float(torch.stack(parts))
    values = tensors[name]
    heads = config["num_attention_heads"]
    if name.endswith("q_proj.weight"):
        values = _neighbours(values, heads)
    elif name.endswith("k_proj.weight"):
        values = _neighbours(values, config.get("num_key_value_heads") or heads)
    return _float(values)


def _neighbours(values: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of halves as rows of neighbouring pairs, in each head."""
    rows, columns = values.shape
    return values.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def _float(values: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.float().numpy()
    return array


def _stored_type(name: str, values: NDArray[np.float32], kind: Kind) -> GGMLQuantizationType:
    # Norms and routers are small and matter; blocks of q8_0 are 32 wide.
    wanted = _TYPES[kind][0]
    if values.ndim == 1 or "ffn_gate_inp" in name or (kind == "q8_0" and values.shape[-1] % 32):
        return GGMLQuantizationType.F32
    return wanted


def _check(path: Path, tensors: TensorFolder, config: dict[str, Any], kind: Kind, on_progress: Track) -> int:
    """Read the file as llama.cpp would, and compare every weight."""
    written = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    count = 0
    for name, values in _named(tensors, config):
        back = written[name]
        read = dequantize(back.data, back.tensor_type).reshape(values.shape)
        most = _TYPES[kind][2] * float(np.abs(values).max())
        if not float(np.abs(read - values).max()) <= most:  # so is what is no number
            raise ExportError(f"gguf: {name} reads back differently than it was written")
        count += 1
        on_progress(count, len(written))
    if count != len(written):
        raise ExportError(f"gguf: {len(written)} tensors were written of {count}")
    return count
