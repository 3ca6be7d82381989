"""Configurations of known models, as their `config.json` states them, and a device of round numbers."""

from __future__ import annotations

from typing import Any

import pytest

from monitoring.plan.accelerators import GIB, Accelerator
from monitoring.plan.sources import Source


@pytest.fixture
def llama_8b() -> dict[str, Any]:
    """Llama 3.1 8B."""
    return {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_hidden_layers": 32,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "torch_dtype": "bfloat16",
    }


@pytest.fixture
def smollm() -> dict[str, Any]:
    """SmolLM2 135M, the default model."""
    return {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "num_hidden_layers": 30,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    }


@pytest.fixture
def processor() -> Accelerator:
    """A processor as the probe would have measured it."""
    return Accelerator(
        name="here",
        memory_bytes=24 * GIB,
        bandwidth=10e9,
        operations={"fp32": 100e9},
        power_w=None,
        link=10e9,
        batched_tokens=2048,
        sources=(Source("a test", "2026"),),
    )
