"""Detectors that others wrote for the same schemes."""

from __future__ import annotations

import math
from collections.abc import Callable

from serving.provenance import MarkKey
from serving.provenance.schemes import lefthash, synthid
from training.studies.marks.detection_study import LEVEL


def foreign_detector(scheme: str, key: MarkKey, vocabulary: int | None = None) -> Callable[[list[int]], bool]:
    """Whether the detector that others wrote for this scheme finds the mark: vLLM's, or transformers'.

    `vocabulary`, the number of tokens of the model's output layer, is needed for transformers' green lists.
    """
    import torch
    from transformers import PreTrainedConfig, WatermarkDetector, WatermarkingConfig
    from transformers.generation.logits_process import SynthIDTextWatermarkLogitsProcessor
    from vllm.v1.watermarking import DualKeyGumbelWatermarkDetector, GumbelWatermarkDetector

    seed = key.seed_for(scheme)
    if scheme in ("gumbel", "dual-gumbel"):
        kind = GumbelWatermarkDetector if scheme == "gumbel" else DualKeyGumbelWatermarkDetector
        theirs = kind(seed)
        return lambda ids: bool(theirs.detect(ids).p_value < LEVEL)
    if scheme == lefthash.NAME:
        assert vocabulary is not None
        config = PreTrainedConfig(vocab_size=vocabulary, bos_token_id=None)
        reads = WatermarkDetector(config, "cpu", WatermarkingConfig(hashing_key=seed), ignore_repeated_ngrams=True)
        return lambda ids: bool(reads(torch.tensor([ids]), z_threshold=3.09)[0])  # one-sided 1e-3
    tournament = SynthIDTextWatermarkLogitsProcessor(5, list(synthid.round_keys(seed)), 2**16, 0, 1024, "cpu")

    def mean_is_high(ids: list[int]) -> bool:
        """Their g-values and their mask of repeated contexts; the unweighted mean over its standard deviation."""
        tokens = torch.tensor([ids])
        g = tournament.compute_g_values(tokens)[0][tournament.compute_context_repetition_mask(tokens)[0]]
        return bool((g.double().mean() - 0.5) * 2 * math.sqrt(g.numel()) > 3.09)

    return mean_is_high
