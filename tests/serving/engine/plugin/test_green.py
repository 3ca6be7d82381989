"""The green list inside vLLM's real sampler: greedy and sampled, read by our detector and by transformers'."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedConfig, WatermarkDetector, WatermarkingConfig
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessors
from vllm.v1.sample.sampler import Sampler

from serving.engine.plugin import GreenProcessor, MarkProcessor
from serving.engine.plugin.green import green_list
from serving.engine.plugin.green_kernel import add_green
from serving.engine.plugin.words import context_words, key_words
from serving.provenance import Keyring
from serving.provenance.schemes import SCHEMES, lefthash
from serving.provenance.schemes.scheme import Pairs

VOCABULARY = 2001
EngineConfig = Callable[..., Any]


@pytest.fixture
def processor(engine_config: EngineConfig) -> GreenProcessor:
    return GreenProcessor(engine_config(), torch.device("cpu"), False)


def params(ring: Keyring, scheme: str | None = "kgw", **fields: Any) -> SamplingParams:
    extra = {"signet_mark": scheme, "signet_key": ring.mark_key("acme").permit(scheme)} if scheme else None
    return SamplingParams(extra_args=extra, **fields)


def update(*rows: tuple[SamplingParams, list[int], list[int]]) -> BatchUpdate:
    added = [(index, *row) for index, row in enumerate(rows)]
    return BatchUpdate(batch_size=8, removed=[], added=added, moved=[])


def generate(
    processor: GreenProcessor, rows: list[SamplingParams], metadata: Callable[..., Any], steps: int = 150
) -> list[list[int]]:
    outputs: list[list[int]] = [[] for _ in rows]
    processor.update_state(update(*((row, [1, 2, 3], output) for row, output in zip(rows, outputs, strict=True))))
    sampler, rng = Sampler(), torch.Generator().manual_seed(3)
    for _ in range(steps):
        processor.update_state(None)
        logits = torch.randn(1, VOCABULARY, generator=rng).mul(2).repeat(len(rows), 1)
        sampled = sampler(logits, metadata(LogitsProcessors([processor]), rows, VOCABULARY)).sampled_token_ids
        for output, token in zip(outputs, sampled[:, 0].tolist(), strict=True):
            output.append(token)
    return outputs


def p_value(token_ids: list[int], seed: int) -> float:
    scheme = SCHEMES["kgw"]
    pairs = scheme.pairs(token_ids)
    return math.exp(scheme.log_p_value(float(scheme.token_scores([seed], pairs).sum()), len(pairs)))


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"temperature": 0.0}, id="greedy"),
        pytest.param({"temperature": 1.0}, id="sampled"),
        pytest.param({"temperature": 0.8, "top_k": 40, "top_p": 0.95}, id="filtered"),
    ],
)
def test_a_green_answer_is_found_beside_one_that_is_not(
    processor: GreenProcessor, ring: Keyring, metadata: Callable[..., Any], fields: dict[str, Any]
) -> None:
    rows = [params(ring, None, **fields), params(ring, "kgw", **fields), params(ring, "gumbel", **fields)]

    unmarked, marked, other = generate(processor, rows, metadata)

    seed = ring.seed(ring.mark_key("acme").id, "kgw")
    assert p_value(marked, seed) < 1e-9
    assert p_value(unmarked, seed) > 1e-3
    assert p_value(other, seed) > 1e-3
    assert p_value(marked, seed ^ 1) > 1e-3


def test_transformers_detector_reads_its_lists(
    processor: GreenProcessor, ring: Keyring, metadata: Callable[..., Any]
) -> None:
    rows = [params(ring, None), params(ring, lefthash.NAME)]

    unmarked, marked = generate(processor, rows, metadata)

    key = ring.seed(ring.mark_key("acme").id, lefthash.NAME)
    config = PreTrainedConfig(vocab_size=VOCABULARY, bos_token_id=None)
    detector = WatermarkDetector(config, "cpu", WatermarkingConfig(hashing_key=key))
    assert detector(torch.tensor([marked]), z_threshold=6.0).all()
    assert not detector(torch.tensor([unmarked]), z_threshold=4.0).any()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 1001, 49_152])
def test_what_is_added_to_is_what_the_detector_calls_green(size: int) -> None:
    seed, context = 0xFEDCBA9876543210, [7, 8, 9, 10]
    logits = np.zeros(size, np.float32)

    add_green(logits, key_words(seed), context_words(context), np.float32(2))

    tokens = np.arange(size)
    pairs = Pairs(np.tile(context, (size, 1)), tokens, tokens)
    assert np.array_equal(logits, 2 * SCHEMES["kgw"].token_scores([seed], pairs)[0])


@pytest.mark.parametrize("size", [8, 500, 4001])
def test_compiled_lists_are_the_readable_ones(size: int) -> None:
    for token in (0, 3, 499):
        assert green_list(77, token, size).tolist() == lefthash.green_list(77, token, size).tolist()


def test_a_context_that_occurred_before_adds_nothing(processor: GreenProcessor, ring: Keyring) -> None:
    output = [1, 2, 3, 4, 5, 1, 2, 3, 4]
    processor.update_state(update((params(ring), [1], output)))
    logits = torch.zeros(1, 64)

    assert not processor.apply(logits).any()
    output.append(77)
    assert processor.apply(logits).any()


@pytest.mark.parametrize("scheme", ["kgw", lefthash.NAME])
def test_a_continued_answer_has_the_same_lists(processor: GreenProcessor, ring: Keyring, scheme: str) -> None:
    row, output = params(ring, scheme), [5, 6]
    continued = SamplingParams(extra_args={**row.extra_args, "signet_answer_start": 3})
    processor.update_state(update((row, [1, 2, 3], [*output]), (continued, [1, 2, 3, *output], [])))

    first, second = processor.apply(torch.zeros(2, 600))

    assert first.any()
    assert torch.equal(first, second)


def test_masked_tokens_stay_masked_and_other_schemes_rows_untouched(processor: GreenProcessor, ring: Keyring) -> None:
    rows = [params(ring), params(ring, "gumbel"), params(ring, None)]
    processor.update_state(update(*((row, [1], []) for row in rows)))
    logits = torch.full((3, 100), -torch.inf)

    assert torch.isinf(processor.apply(logits)).all()
    assert not processor.apply(torch.zeros(3, 100))[1:].any()


def test_delta_is_the_engines(engine_config: EngineConfig, ring: Keyring) -> None:
    processor = GreenProcessor(engine_config({"keyring": str(ring.path), "kgw_delta": 0.5}), None, False)
    processor.update_state(update((params(ring), [1], [])))

    assert set(processor.apply(torch.zeros(1, 400)).unique().tolist()) == {0.0, 0.5}


@pytest.mark.parametrize("scheme", ["kgw", lefthash.NAME, "synthid", "dual-gumbel"])
def test_validation_lets_every_scheme_pass(engine_config: EngineConfig, ring: Keyring, scheme: str) -> None:
    asked = params(ring, scheme, temperature=0.0 if "kgw" in scheme else 1.0)
    with pytest.raises(ValueError, match="cannot mark"):
        MarkProcessor.validate_params(asked)

    MarkProcessor(engine_config(), torch.device("cpu"), False)

    MarkProcessor.validate_params(asked)


def test_a_revoked_key_marks_nothing_more(engine_config: EngineConfig, ring: Keyring) -> None:
    MarkProcessor(engine_config(), torch.device("cpu"), False)
    revoked = params(ring)
    Keyring.open(ring.path).revoke(ring.mark_key("acme").id)
    MarkProcessor.ready = MarkProcessor.ready.__class__(Keyring.open(ring.path))

    with pytest.raises(ValueError, match="revoked"):
        MarkProcessor.validate_params(revoked)
