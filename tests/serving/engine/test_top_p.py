"""Top-k and top-p by the likeliest tokens, against vLLM's by a sort."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from vllm.v1.sample.ops import topk_topp_sampler

from serving.engine import top_p

VOCABULARY = 5_000
SPREADS = torch.tensor([0.1, 1.0, 3.0, 8.0])
vllms = topk_topp_sampler.apply_top_k_top_p_pytorch


def rows(masked: float = 0.0) -> torch.Tensor:
    """A request each of flat to steep logits, some tokens ruled out before."""
    chance = torch.Generator().manual_seed(17)
    logits = torch.randn(len(SPREADS), VOCABULARY, generator=chance) * SPREADS[:, None]
    return logits.masked_fill(torch.rand(logits.shape, generator=chance) < masked, -torch.inf)


def kept(logits: torch.Tensor) -> torch.Tensor:
    return logits > -torch.inf


@pytest.mark.parametrize("share", [1e-6, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("count", [None, 1, 50, 2_000])
@pytest.mark.parametrize("masked", [0.0, 0.97])
def test_the_same_tokens_stay_with_their_logits(share: float, count: int | None, masked: float) -> None:
    p = torch.full(SPREADS.shape, share)
    k = None if count is None else torch.full(SPREADS.shape, count)

    ours = top_p.apply_top_k_top_p(rows(masked), k, p, allow_cpu_sync=True)

    theirs = vllms(rows(masked), k, p, allow_cpu_sync=True)
    # Sums of float32 in another order round differently: at the edge of a nucleus a few in ten thousand may differ.
    assert ((kept(ours) != kept(theirs)).sum(1) <= 1 + 1e-3 * kept(theirs).sum(1)).all()
    assert torch.equal(ours[kept(ours)], rows(masked)[kept(ours)])
    assert kept(ours).any(dim=1).all()


def test_each_request_has_its_own_limits_and_none_where_it_named_none() -> None:
    p, k = torch.tensor([1.0, 0.9, 0.5, 1.0]), torch.tensor([VOCABULARY, VOCABULARY, 40, 3])

    ours = kept(top_p.apply_top_k_top_p(rows(), k, p, allow_cpu_sync=True))

    assert torch.equal(ours[0], torch.ones(VOCABULARY, dtype=torch.bool))
    assert torch.equal(ours[1:].sum(1), kept(vllms(rows(), k, p, allow_cpu_sync=True))[1:].sum(1))


def test_of_equal_logits_at_the_edge_as_many_stay_as_are_needed() -> None:
    logits = torch.full((1, VOCABULARY), -20.0)
    logits[0, ::50] = 1.0

    assert kept(top_p.apply_top_k_top_p(logits, None, torch.tensor([0.495])))[0].sum() == 50


@pytest.fixture
def installed() -> Iterator[None]:
    top_p.install()
    yield
    topk_topp_sampler.apply_top_k_top_p_pytorch = vllms


@pytest.mark.usefixtures("installed")
def test_vllms_sampler_sorts_only_what_has_a_large_nucleus(monkeypatch: pytest.MonkeyPatch) -> None:
    sorted_rows: list[int] = []

    def sort(logits: torch.Tensor, *limits: object) -> torch.Tensor:
        sorted_rows.append(len(logits))
        return vllms(logits, *limits)

    monkeypatch.setattr(top_p, "_sort", sort)

    topk_topp_sampler.apply_top_k_top_p(rows(), None, torch.full(SPREADS.shape, 0.9))

    assert sorted_rows == [2]
