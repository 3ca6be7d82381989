from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from training.model import ModelConfig
from training.model.decoder import Decoder

VARIANTS: list[dict[str, Any]] = [
    {},
    {"kv_heads": 4},
    {"window": 6},
    {"experts": 4},
    {"norm": "layer"},
    {"norm_place": "post"},
    {"activation": "gelu"},
    {"residual": False, "layers": 1},
    {"tied": False},
    {"dropout": 0.1},
    *({"positions": kind} for kind in ("learned", "sinusoid", "alibi", "none")),
]


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_no_token_knows_of_those_behind_it(settings: dict[str, Any], make_model: Any, ids_BL: torch.Tensor) -> None:
    model = make_model(**settings)
    changed = ids_BL.clone()
    changed[:, 12] = (changed[:, 12] + 1) % 61

    with torch.no_grad():
        before, after = model(ids_BL), model(changed)

    torch.testing.assert_close(before[:, :12], after[:, :12], rtol=0, atol=1e-5)
    assert float((before - after)[:, 12].abs().max()) > 1e-4


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_every_variant_learns(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = Decoder(
        ModelConfig(**{
            "vocab_size": 11, "layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "hidden": 32, "context": 16,
            **settings,
        })
    )  # fmt: skip
    ids = torch.arange(16).remainder(11)[None].repeat(4, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)

    losses = []
    for _ in range(40):
        loss = cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    assert losses[0] == pytest.approx(math.log(11), rel=0.15)  # it begins knowing nothing
    assert losses[-1] < 0.8 * losses[0]
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_tied_head_is_the_embedding(make_model: Any) -> None:
    tied, untied = make_model(), make_model(tied=False)

    assert tied.head.weight is tied.embedding.tokens.weight
    assert untied.head.weight is not untied.embedding.tokens.weight


def test_what_writes_to_the_stream_starts_smaller() -> None:
    torch.manual_seed(0)
    model = Decoder(ModelConfig(vocab_size=9, layers=8, width=64, heads=4, kv_heads=4, hidden=64, context=8))
    block: Any = model.blocks[0]

    assert block.mlp.up.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.mlp.down.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert block.attention.output.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
