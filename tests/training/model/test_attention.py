"""Attention beside PyTorch's, and the positions that each kind of model tells apart."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from training.model.attention import Attention, Positions, alibi_slopes, attend, rotate, rotation
from training.model.config import ModelConfig
from training.model.decoder import Decoder

pytestmark = pytest.mark.usefixtures("no_gradients")


def config(**settings: object) -> ModelConfig:
    plain = {"vocab_size": 9, "layers": 1, "width": 32, "heads": 4, "kv_heads": 4, "hidden": 8, "context": 64}
    return ModelConfig(**{**plain, **settings})  # type: ignore[arg-type]


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize(("queries", "keys"), [(7, 7), (1, 9), (3, 9)])
def test_written_out_it_is_pytorchs(kv_heads: int, queries: int, keys: int) -> None:
    q, k, v = random(2, queries, 4, 8), random(2, keys, kv_heads, 8), random(3, keys, kv_heads, 8)[:2]
    positions = Positions(config(), torch.arange(keys - queries, keys), torch.arange(keys))

    mixed, weights = attend(q, k, v, positions.bias(q))

    expected = scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (q, k, v)), attn_mask=positions.bias(q), enable_gqa=True
    )
    torch.testing.assert_close(mixed, expected.transpose(1, 2), rtol=0, atol=1e-6)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4, queries))
    assert weights[..., 0, keys - queries + 1 :].max() == 0 if queries > 1 else True


@pytest.mark.parametrize("positions", ["rope", "alibi", "none"])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_watched_attention_is_the_same(positions: str, window: int | None, kv_heads: int) -> None:
    attention = Attention(config(positions=positions, window=window, kv_heads=kv_heads), layer=0)
    at = torch.arange(12)
    x = random(2, 12, 32)

    plain = attention(x, Positions(attention.config, at, at))
    attention.is_watched = True
    watched = attention(x, Positions(attention.config, at, at))

    torch.testing.assert_close(watched, plain, rtol=0, atol=1e-6)
    assert attention.weights_BNLM is not None
    seen = attention.weights_BNLM[0, 0, -1] > 0
    assert int(seen.sum()) == (window or 12)


def test_rotation_keeps_lengths_and_shows_distance_alone() -> None:
    settings = config()
    q, k = random(1, 1, 1, 8), random(2, 1, 1, 8)[:1]

    def score(query_at: int, key_at: int) -> float:
        turned = [rotate(x, rotation(torch.tensor([at]), settings)) for x, at in ((q, query_at), (k, key_at))]
        return float((turned[0] * turned[1]).sum())

    assert score(7, 3) == pytest.approx(score(44, 40), abs=1e-5)
    assert score(7, 3) != pytest.approx(score(7, 5), abs=1e-2)
    assert float(rotate(q, rotation(torch.tensor([9]), settings)).norm()) == pytest.approx(float(q.norm()), rel=1e-5)


@pytest.mark.parametrize(
    ("heads", "slopes"),
    [
        (4, [2**-2, 2**-4, 2**-6, 2**-8]),
        (6, [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]),
    ],
)
def test_alibis_slopes_are_those_of_its_authors(heads: int, slopes: list[float]) -> None:
    assert alibi_slopes(heads).tolist() == pytest.approx(slopes)


def test_padding_is_not_looked_at() -> None:
    settings = config(positions="none")
    at = torch.arange(4)
    is_padding = torch.tensor([[False, False, False, False], [False, False, True, True]])
    q = random(2, 4, 4, 8)

    _, weights = attend(q, q, q, Positions(settings, at, at, is_causal=False, is_padding_BM=is_padding).bias(q))

    assert (weights[0] > 0).all()
    assert float(weights[1, :, :, 2:].max()) == 0


@pytest.mark.parametrize("positions", ["rope", "learned", "sinusoid", "alibi"])
def test_order_matters_with_every_kind_of_positions(positions: str) -> None:
    torch.manual_seed(0)
    model = Decoder(config(positions=positions)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)

    one, other = model(torch.tensor([[1, 2, 3, 4, 5]])), model(torch.tensor([[3, 1, 2, 4, 5]]))

    assert float((one - other)[0, -1].abs().max()) > 1e-3


def test_without_positions_only_what_came_before_matters() -> None:
    torch.manual_seed(0)
    model = Decoder(config(positions="none")).eval()

    one, other = model(torch.tensor([[1, 2, 3, 4, 5]])), model(torch.tensor([[3, 1, 2, 4, 5]]))

    torch.testing.assert_close(one[0, -1], other[0, -1], rtol=0, atol=1e-6)
    assert math.isfinite(float(one.sum()))
