"""Top-k and top-p without a sort against vLLM's with one."""

import numpy as np
import pytest
import torch
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p_pytorch

from serving.engine.plugin.survivors import collision_nats, survivors


@pytest.mark.parametrize(
    ("top_k", "top_p"), [(50, 1.0), (1, 1.0), (0, 0.9), (-1, 0.5), (0, 0.9999), (50, 0.95), (49_152, 0.3), (3, 1e-6)]
)
@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("masked", [0.0, 0.97])
def test_survivors_are_vllms(top_k: int, top_p: float, spread: float, masked: float) -> None:
    rng = np.random.default_rng(17)
    logits = (rng.normal(size=49_152) * spread).astype(np.float32)
    logits[rng.random(logits.size) < masked] = -np.inf
    k = torch.tensor([top_k if 0 < top_k < logits.size else logits.size])
    theirs = apply_top_k_top_p_pytorch(torch.tensor(logits)[None], k, torch.tensor([top_p]))[0].numpy()

    ours = set(survivors(logits, top_k, top_p).tolist())

    # Sums of 49,152 float32 round differently: at the edge of the nucleus a few in ten thousand may differ.
    differing = ours ^ set(np.flatnonzero(theirs > -np.inf).tolist())
    assert len(differing) <= len(ours) * 1e-3
    assert int(logits.argmax()) in ours


def test_ties_at_the_kth_place_all_stay() -> None:
    assert set(survivors(np.array([1, 2, 2, 2, 3], np.float32), 2, 1.0).tolist()) == {1, 2, 3, 4}


def test_fewer_finite_logits_than_k_all_stay() -> None:
    logits = np.array([-np.inf, 1, -np.inf, 2], np.float32)

    assert set(survivors(logits, 3, 1.0).tolist()) == {1, 3}


def test_collision_entropy_of_equal_weights_is_the_log_of_their_number() -> None:
    assert collision_nats(np.full(8, 0.3, np.float32)) == pytest.approx(np.log(8))
    assert collision_nats(np.array([1.0], np.float32)) == 0.0
