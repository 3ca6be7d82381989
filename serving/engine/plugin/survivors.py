"""Which tokens top-k and top-p leave over, without sorting the vocabulary."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Lower bounds on weight relative to the likeliest token, tried in turn until the tokens above hold enough mass.
# Nearly every row ends at the first; sorting all 49,152 tokens instead takes 3 ms a row.
CUTS = (1e-4, 1e-6, 1e-9, 0.0)


def survivors(logits: NDArray[np.float32], top_k: int, top_p: float) -> NDArray[np.int64]:
    """Token ids that vLLM's own top-k, then top-p, would keep: a token stays while those above it hold less than top_p.

    logits [V], already divided by the temperature; -inf where a token is masked. top_k 0 and top_p 1 switch off.
    """
    size = logits.size
    if 0 < top_k < size:
        # Everything that equals the k-th largest stays, as in vLLM.
        kth = np.partition(logits, size - top_k)[size - top_k]
        kept = np.flatnonzero(logits >= kth) if kth > -np.inf else np.flatnonzero(logits > -np.inf)
        weights = np.exp(logits[kept] - logits[kept].max())
        return kept if top_p >= 1 else _nucleus(kept, weights, top_p * float(weights.sum(dtype=np.float64)))
    all_weights = np.exp(logits - logits.max())
    kept, total = _above_cut(all_weights, top_p)
    return _nucleus(kept, all_weights[kept], top_p * total)


def _above_cut(weights: NDArray[np.float32], share: float) -> tuple[NDArray[np.int64], float]:
    """The places of the larger weights that hold a share of all at least, and the sum of all.

    The largest weight is 1.
    """
    total = float(weights.sum(dtype=np.float64))
    for cut in CUTS:
        kept = np.flatnonzero(weights > cut)
        if float(weights[kept].sum(dtype=np.float64)) >= share * total:
            break
    return kept, total


def collision_nats(weights: NDArray[np.float32]) -> float:
    """-log of the chance that two independent draws from these weights agree; 0 for a certain token."""
    total = float(weights.sum(dtype=np.float64))
    return max(0.0, 2 * float(np.log(total)) - float(np.log(np.square(weights, dtype=np.float64).sum())))


def _nucleus(tokens: NDArray[np.int64], weights: NDArray[np.float32], mass: float) -> NDArray[np.int64]:
    order = np.argsort(-weights, kind="stable")
    above = np.cumsum(weights[order], dtype=np.float64) - weights[order]
    # The likeliest token always stays, whatever rounding does to a tiny top_p.
    return tokens[order[: max(1, int(np.searchsorted(above, mass)))]]
