"""Cached or not, a text has the same logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from training.model.cache import Cache, Int8Cache, SlidingCache

pytestmark = pytest.mark.usefixtures("no_gradients")

VARIANTS = [
    {},
    {"window": 5},
    {"positions": "alibi"},
    {"positions": "learned"},
    {"positions": "sinusoid", "norm_place": "post"},
    {"experts": 3},
]


def in_parts(model: Any, ids_BL: torch.Tensor, cache: Cache, sizes: tuple[int, ...]) -> torch.Tensor:
    return torch.cat([model(part, cache) for part in ids_BL.split(sizes, dim=1)], dim=1)


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
@pytest.mark.parametrize("sizes", [(1,) * 20, (13, 1, 1, 5), (20,)], ids=["one", "some", "all"])
def test_parts_give_what_the_whole_gives(
    settings: dict[str, Any], sizes: tuple[int, ...], make_model: Any, ids_BL: torch.Tensor
) -> None:
    model = make_model(**settings)
    whole = model(ids_BL)

    torch.testing.assert_close(in_parts(model, ids_BL, Cache(model.config), sizes), whole, rtol=0, atol=1e-4)
    if model.config.window is not None:
        sliding = SlidingCache(model.config)
        torch.testing.assert_close(in_parts(model, ids_BL, sliding, sizes), whole, rtol=0, atol=1e-4)
        assert (sliding.length, sliding.num_kept) == (20, 4)


@pytest.mark.parametrize("window", [1, 2])
def test_the_smallest_windows_slide(window: int, make_model: Any, ids_BL: torch.Tensor) -> None:
    model = make_model(window=window)

    parts = in_parts(model, ids_BL, SlidingCache(model.config), (1,) * 20)

    torch.testing.assert_close(parts, model(ids_BL), rtol=0, atol=1e-4)


def test_a_sliding_cache_needs_a_window(make_model: Any) -> None:
    with pytest.raises(ValueError, match="without a window"):
        SlidingCache(make_model().config)


def test_eight_bits_take_a_third_of_the_memory_and_stay_near(make_model: Any, ids_BL: torch.Tensor) -> None:
    model = make_model(width=256, heads=4, kv_heads=4, layers=1)
    for parameter in model.parameters():
        parameter.data *= 0.3
    exact, rough = Cache(model.config), Int8Cache(model.config)

    whole, parts = in_parts(model, ids_BL, exact, (10, 10)), in_parts(model, ids_BL, rough, (10, 10))

    assert rough.num_bytes / exact.num_bytes == pytest.approx(1 / 4 + 1 / 64, rel=1e-6)
    assert float((whole - parts).abs().max()) < 0.02 * float(whole.abs().max())
    # The new tokens' own keys are exact: only what is read back is rounded.
    torch.testing.assert_close(whole[:, :10], parts[:, :10])


@pytest.mark.parametrize("kind", [Cache, Int8Cache])
def test_guesses_are_forgotten(kind: type[Cache], make_model: Any, ids_BL: torch.Tensor) -> None:
    model = make_model()
    cache, straight = kind(model.config), kind(model.config)
    model(ids_BL[:, :8], cache)
    model((ids_BL[:, 8:12] + 1) % 61, cache)

    cache.truncate(8)
    again = model(ids_BL[:, 8:], cache)

    model(ids_BL[:, :8], straight)
    torch.testing.assert_close(again, model(ids_BL[:, 8:], straight))
    assert cache.length == 20


def test_what_slid_away_cannot_be_gone_back_to(make_model: Any, ids_BL: torch.Tensor) -> None:
    model = make_model(window=4)
    cache = SlidingCache(model.config)
    model(ids_BL, cache)

    with pytest.raises(ValueError, match="position 3 is no longer kept"):
        cache.truncate(3)


def test_rows_go_on_in_another_order(make_model: Any, ids_BL: torch.Tensor) -> None:
    model = make_model()
    cache = Cache(model.config)
    model(ids_BL[:, :10], cache)
    rows = torch.tensor([2, 0, 0])

    cache.take_rows(rows)

    torch.testing.assert_close(model(ids_BL[rows, 10:], cache), model(ids_BL[rows])[:, 10:], rtol=0, atol=1e-4)
