"""Bytes of weights in each format that vLLM serves, to the byte: scales, zero points and what is left in 16 bits too.

The layouts are those of the files: compressed-tensors (what `signet quantize` writes), AutoGPTQ, AutoAWQ, FP8.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from monitoring.plan.accelerators import Arithmetic
from monitoring.plan.errors import PlanError
from monitoring.plan.shape import Matrix, Shape

Layout = Literal["plain", "channel", "tensor", "block", "packed", "gptq", "awq"]
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "fp8", "int8", "int4")

_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_NAMED = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
# What `signet quantize` takes, and where it does not divide a layer's columns.
_GROUPS = (64, 32)


@dataclass(frozen=True, slots=True)
class Format:
    """How the weights of a linear layer are stored."""

    layout: Layout
    bits: int
    arithmetic: Arithmetic
    group: int | None = None
    """Weights that share a scale along the inputs; None: a row's, or one for all."""
    has_zeros: bool = False
    has_order: bool = False
    """Whether it stores which group each input belongs to."""

    def matrix_bytes(self, matrix: Matrix, plain_bytes: int) -> int:
        """Of a matrix with its scales and its bias, which stays as `plain_bytes` a number."""
        out, cols = matrix.outputs, matrix.inputs
        bias = out * plain_bytes if matrix.has_bias else 0
        groups = 1 if self.group is None else -(-cols // self.group)
        if self.layout == "plain":
            return out * cols * plain_bytes + bias
        if self.layout == "tensor":
            return out * cols * self.bits // 8 + 4 + bias
        if self.layout == "channel":
            return out * cols * self.bits // 8 + out * plain_bytes + bias
        if self.layout == "block":
            size = self.group or 128
            return out * cols + 4 * -(-out // size) * -(-cols // size) + bias
        # Integers are packed into words of 32 bits: along inputs or outputs, which is the same where both divide.
        per_word = 32 // self.bits
        if self.layout == "packed":
            words = out * -(-cols // per_word) + (-(-out // per_word) * groups if self.has_zeros else 0)
            # The matrix's own shape stands beside it as two 64-bit numbers.
            return 4 * words + out * groups * plain_bytes + 16 + (4 * cols if self.has_order else 0) + bias
        words = cols * out // per_word + groups * -(-out // per_word)
        order = 4 * cols if self.layout == "gptq" else 0
        return 4 * words + 2 * groups * out + order + bias


@dataclass(frozen=True)
class Weights:
    """A model's weights in a precision."""

    shape: Shape
    name: str
    """As the report calls it: `bf16`, `int4, groups of 64`."""
    plain_bytes: int
    """Of a number that is not quantized."""
    formats: Mapping[str, Format]
    """By matrix name, for those that are quantized."""

    @cached_property
    def arithmetic(self) -> Arithmetic:
        """In what most products are computed."""
        if not self.formats:
            return "fp32" if self.plain_bytes == 4 else "16-bit"
        counts: dict[Arithmetic, int] = {}
        for matrix in self.shape.matrices:
            found = self.formats.get(matrix.name)
            kind: Arithmetic = "16-bit" if found is None else found.arithmetic
            counts[kind] = counts.get(kind, 0) + matrix.outputs * matrix.inputs
        return max(counts, key=lambda kind: counts[kind])

    @property
    def are_packed(self) -> bool:
        """Whether most are held in 4 bits and multiplied in more."""
        return self.arithmetic == "16-bit" and any(kind.bits == 4 for kind in self.formats.values())

    @cached_property
    def layer_bytes(self) -> int:
        """Of all linear layers, every expert counted."""
        return sum(self._bytes(matrix) for matrix in self.shape.matrices)

    @cached_property
    def routed_bytes(self) -> int:
        """Of the routed experts among them."""
        return sum(self._bytes(matrix) for matrix in self.shape.matrices if matrix.is_routed)

    @cached_property
    def output_bytes(self) -> int:
        """Of the output layer, whether it is the embedding or a matrix of its own."""
        return self._bytes(self.shape.output)

    @property
    def total_bytes(self) -> int:
        """All of it, as it lies in memory: tied weights once."""
        embedding = self.shape.vocab_size * self.shape.width * self.plain_bytes
        own_output = 0 if self.shape.is_tied else self.output_bytes
        return self.layer_bytes + embedding + own_output + self.shape.norm_weights * self.plain_bytes

    def _bytes(self, matrix: Matrix) -> int:
        found = self.formats.get(matrix.name)
        if found is None:
            bias = matrix.outputs if matrix.has_bias else 0
            return (matrix.outputs * matrix.inputs + bias) * self.plain_bytes
        return found.matrix_bytes(matrix, self.plain_bytes)


def weights_of(config: Mapping[str, Any], shape: Shape, precision: str, auto: str | None = None) -> Weights:
    """The weights as `precision` has them; `auto` means the checkpoint's own, or `auto` where the engine knows better.

    Raises PlanError: a quantized checkpoint cannot be quantized again, and unknown formats cannot be counted.
    """
    stated = config.get("quantization_config")
    if precision not in PRECISIONS:
        raise PlanError(f"no precision named {precision!r}: known are {', '.join(PRECISIONS)}")
    if isinstance(stated, Mapping):
        plain = _DTYPE_BYTES.get(shape.dtype or "", 2)
        name, formats = _stated(stated, shape)
        if precision not in ("auto", name.partition(",")[0]):
            raise PlanError(f"the checkpoint is {name} already: leave --precision {precision} out")
        return Weights(shape, name, plain, formats)
    if precision in ("fp8", "int8", "int4"):
        return Weights(shape, *_quantized(shape, precision))
    dtype = _NAMED.get(precision) or (auto if precision == "auto" and auto else shape.dtype) or "bfloat16"
    if dtype not in _DTYPE_BYTES:
        raise PlanError(f"config.json names weights of {dtype!r}: known are {', '.join(_DTYPE_BYTES)}")
    short = next(short for short, long in _NAMED.items() if long == dtype)
    return Weights(shape, short, _DTYPE_BYTES[dtype], {})


def _quantized(shape: Shape, precision: str) -> tuple[str, int, dict[str, Format]]:
    """As vLLM's `--quantization fp8` and `signet quantize` (w8a8, gptq) make it; routers stay as they are."""
    matrices = [matrix for matrix in shape.matrices if not _is_router(matrix)]
    if precision == "fp8":
        return precision, 2, {matrix.name: Format("tensor", 8, "fp8") for matrix in matrices}
    if precision == "int8":
        return precision, 2, {matrix.name: Format("channel", 8, "int8") for matrix in matrices}
    size = next((size for size in _GROUPS if all(matrix.inputs % size == 0 for matrix in matrices)), None)
    if size is None:
        raise PlanError("int4 needs matrices whose columns are a multiple of 32")
    return f"int4, groups of {size}", 2, {matrix.name: Format("packed", 4, "16-bit", size) for matrix in matrices}


def _is_router(matrix: Matrix) -> bool:
    return matrix.name.endswith((".gate", ".shared_expert_gate"))


def _stated(stated: Mapping[str, Any], shape: Shape) -> tuple[str, dict[str, Format]]:
    """What `quantization_config` says, as a name and a format for each matrix."""
    method = stated.get("quant_method")
    if method == "compressed-tensors":
        return _compressed(stated, shape)
    ignored = stated.get("modules_to_not_convert") or stated.get("ignored_layers") or []
    matrices = [matrix for matrix in shape.matrices if not _is_router(matrix) and not _names(ignored, matrix)]
    if method in ("gptq", "awq"):
        bits, group = stated.get("bits", 4), stated.get("group_size", 128)
        if bits not in (4, 8) or not isinstance(group, int) or stated.get("dynamic"):
            raise PlanError(f"{method} with {bits!r} bits in groups of {group!r}, or by layer, cannot be counted")
        kind = Format(method, bits, "16-bit", None if group < 1 else group)
        own_output = [shape.output] if stated.get("lm_head") is True and not shape.is_tied else []
        return f"int{bits}, {method}", {matrix.name: kind for matrix in (*matrices, *own_output)}
    if method == "fp8":
        block = stated.get("weight_block_size")
        kind = Format("block", 8, "fp8", _block(block)) if block else Format("tensor", 8, "fp8")
        return "fp8", {matrix.name: kind for matrix in matrices}
    raise PlanError(f"plan cannot count weights quantized by {method!r}: known are compressed-tensors, gptq, awq, fp8")


def _block(stated: Any) -> int:
    if isinstance(stated, list) and stated and isinstance(stated[0], int) and stated[0] > 0:
        return stated[0]
    raise PlanError(f"plan cannot count scales of blocks of {stated!r}")


def _compressed(stated: Mapping[str, Any], shape: Shape) -> tuple[str, dict[str, Format]]:
    formats: dict[str, Format] = {}
    names: list[str] = []
    ignored = stated.get("ignore") or []
    stated_groups = stated.get("config_groups")
    groups = [*stated_groups.values()] if isinstance(stated_groups, Mapping) else []
    if not groups or not all(isinstance(group, Mapping) for group in groups):
        raise PlanError("quantization_config names no config_groups: plan cannot count its weights")
    matrices = [*shape.matrices, *([] if shape.is_tied else [shape.output])]
    # What is named wins over what is only of a kind, wherever it stands.
    for group in sorted(groups, key=lambda group: "Linear" not in (group.get("targets") or [])):
        kind, name = _of_group(group)
        names.append(name)
        for matrix in matrices:
            if _names(group.get("targets") or [], matrix) and not _names(ignored, matrix):
                formats[matrix.name] = kind
    return " and ".join(dict.fromkeys(names)), formats


def _of_group(group: Mapping[str, Any]) -> tuple[Format, str]:
    weights = group.get("weights") or {}
    bits, kind, strategy = weights.get("num_bits"), weights.get("type", "int"), weights.get("strategy")
    size, zeros = weights.get("group_size"), weights.get("symmetric") is False
    has_inputs = bool(group.get("input_activations"))
    if kind == "float" and bits == 8:
        if strategy == "block":
            return Format("block", 8, "fp8", _block(weights.get("block_structure"))), "fp8"
        return Format("channel" if strategy == "channel" else "tensor", 8, "fp8"), "fp8"
    if kind == "int" and bits == 8 and has_inputs:
        return Format("channel", 8, "int8"), "int8"
    if kind == "int" and bits in (4, 8):
        # `static` order is undone when the file is written; only `group` stores it.
        order = weights.get("actorder") in ("group", "dynamic", True)
        where = f", groups of {size}" if size else ""
        return Format("packed", bits, "16-bit", size, zeros, order), f"int{bits}{where}"
    raise PlanError(f"plan cannot count weights of {bits!r} bits, type {kind!r}, strategy {strategy!r}")


def _names(patterns: Any, matrix: Matrix) -> bool:
    """Whether compressed-tensors' list of targets or exceptions means this matrix: by kind, name, end or `re:`."""
    for pattern in patterns:
        text = str(pattern)
        if text == "Linear" or text == matrix.name or matrix.name.endswith("." + text):
            return True
        if text.startswith("re:") and re.match(text[3:], matrix.name):
            return True
    return False
