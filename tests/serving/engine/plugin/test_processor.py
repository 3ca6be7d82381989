"""The processor inside vLLM's real sampler: what it marks, what it leaves alone, and how it follows the batch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessors, MoveDirectionality
from vllm.v1.sample.sampler import Sampler
from vllm.v1.watermarking import GumbelWatermarkDetector

from serving.engine.plugin import MarkProcessor
from serving.provenance import Keyring, detect

VOCABULARY = 2000
EngineConfig = Callable[..., Any]
Metadata = Callable[..., Any]


@pytest.fixture
def processor(engine_config: EngineConfig, ring: Keyring) -> MarkProcessor:
    section = {"keyring": str(ring.path), "opening_nats": 0}
    return MarkProcessor(engine_config(section), torch.device("cpu"), False)


def params(ring: Keyring, tenant: str | None = "acme", **fields: Any) -> SamplingParams:
    extra = {"signet_mark": "gumbel", "signet_key": ring.mark_key(tenant).permit()} if tenant else None
    return SamplingParams(extra_args=extra, **fields)


def batch(
    added: list[tuple[int, SamplingParams, list[int]]],
    removed: list[int] | None = None,
    moved: list[tuple[int, int, MoveDirectionality]] | None = None,
) -> BatchUpdate:
    with_prompt = [(index, one, [1, 2, 3], output) for index, one, output in added]
    return BatchUpdate(batch_size=8, removed=removed or [], added=with_prompt, moved=moved or [])


def generate(
    processor: MarkProcessor, rows: list[SamplingParams], metadata: Metadata, steps: int = 60
) -> list[list[int]]:
    """Answers of a model whose logits are noise, sampled by vLLM's own sampler."""
    outputs: list[list[int]] = [[] for _ in rows]
    processor.update_state(batch([(i, row, outputs[i]) for i, row in enumerate(rows)]))
    sampler, rng = Sampler(), torch.Generator().manual_seed(3)
    for _ in range(steps):
        processor.update_state(None)
        logits = torch.randn(1, VOCABULARY, generator=rng).mul(2).repeat(len(rows), 1)
        sampled = sampler(logits, metadata(LogitsProcessors([processor]), rows, VOCABULARY)).sampled_token_ids
        for output, token in zip(outputs, sampled[:, 0].tolist(), strict=True):
            output.append(token)
    return outputs


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"temperature": 1.0}, id="plain"),
        pytest.param({"temperature": 1.0, "top_p": 0.9}, id="top-p"),
        pytest.param({"temperature": 0.7, "top_k": 50, "top_p": 0.95}, id="top-k-top-p"),
        pytest.param({"temperature": 1.0, "seed": 5}, id="seed"),
    ],
)
def test_marked_rows_are_read_by_both_detectors_beside_rows_that_are_not(
    processor: MarkProcessor, ring: Keyring, fields: dict[str, Any], metadata: Metadata
) -> None:
    rows = [params(ring, None, **fields), params(ring, "acme", **fields), params(ring, "beta", **fields)]

    unmarked, acme, beta = generate(processor, rows, metadata)

    for text, tenant in ((acme, "acme"), (beta, "beta")):
        assert detect(text, ring.keys()).tenant == tenant
        assert GumbelWatermarkDetector(ring.mark_key(tenant).seed).detect(text).p_value < 1e-6
    assert not detect(unmarked, ring.keys()).marked
    assert GumbelWatermarkDetector(ring.mark_key("beta").seed).detect(acme).p_value > 1e-3


def test_a_token_outside_top_k_is_never_chosen(processor: MarkProcessor, ring: Keyring, metadata: Metadata) -> None:
    row = params(ring, top_k=3)
    processor.update_state(batch([(0, row, [])]))
    for seed in range(100):
        logits = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(seed))
        allowed = logits[0].topk(3).indices.tolist()
        assert (
            int(Sampler()(logits, metadata(LogitsProcessors([processor]), [row], VOCABULARY)).sampled_token_ids)
            in allowed
        )


def test_a_masked_token_is_never_chosen(processor: MarkProcessor, ring: Keyring, metadata: Metadata) -> None:
    """A grammar, min-p or allowed tokens leave minus infinity behind."""
    row = params(ring)
    processor.update_state(batch([(0, row, [])]))
    logits = torch.full((1, VOCABULARY), -torch.inf)
    logits[0, [17, 1234]] = 0.0

    assert int(Sampler()(logits, metadata(LogitsProcessors([processor]), [row], VOCABULARY)).sampled_token_ids) in (
        17,
        1234,
    )


def test_without_a_marked_row_logits_come_back_untouched(processor: MarkProcessor, ring: Keyring) -> None:
    processor.update_state(batch([(0, params(ring, None), []), (1, params(ring, temperature=0.0), [])]))
    logits = torch.randn(2, VOCABULARY)
    before = logits.clone()

    after = processor.apply(logits)

    assert after is logits
    assert torch.equal(after, before)


def test_neighbours_of_a_marked_row_are_untouched(processor: MarkProcessor, ring: Keyring) -> None:
    processor.update_state(batch([(1, params(ring), [])]))
    logits = torch.randn(3, VOCABULARY)
    before = logits.clone()

    after = processor.apply(logits)

    assert torch.equal(after[[0, 2]], before[[0, 2]])
    assert int((after[1] != before[1]).sum()) == 1


def test_a_greedy_row_in_a_mixed_batch_takes_the_likeliest(
    processor: MarkProcessor, ring: Keyring, metadata: Metadata
) -> None:
    rows = [params(ring, temperature=0.0), params(ring)]
    processor.update_state(batch([(i, row, []) for i, row in enumerate(rows)]))
    logits = torch.randn(2, VOCABULARY)
    likeliest = int(logits[0].argmax())

    assert (
        int(Sampler()(logits, metadata(LogitsProcessors([processor]), rows, VOCABULARY)).sampled_token_ids[0])
        == likeliest
    )


def marked_indices(processor: MarkProcessor) -> set[int]:
    logits = torch.zeros(8, 16)
    return set(torch.nonzero((processor.apply(logits) != 0).any(dim=1)).flatten().tolist())


def test_rows_are_followed_as_requests_come_go_and_move(processor: MarkProcessor, ring: Keyring) -> None:
    marked, plain = params(ring), params(ring, None)
    processor.update_state(batch([(0, marked, []), (1, plain, []), (2, marked, [])]))
    assert marked_indices(processor) == {0, 2}

    processor.update_state(batch([], moved=[(0, 1, MoveDirectionality.SWAP)]))
    assert marked_indices(processor) == {1, 2}

    processor.update_state(batch([], removed=[1], moved=[(2, 0, MoveDirectionality.UNIDIRECTIONAL)]))
    assert marked_indices(processor) == {0}

    processor.update_state(batch([(0, plain, [])]))
    assert marked_indices(processor) == set()


def test_answers_to_one_question_differ_and_are_still_marked(
    engine_config: EngineConfig, ring: Keyring, metadata: Metadata
) -> None:
    """The keyed draws alone would give every one of `n` answers the same text."""
    torch.manual_seed(0)  # one pair of openings in a hundred agrees
    processor = MarkProcessor(engine_config(), torch.device("cpu"), False)

    answers = generate(processor, [params(ring) for _ in range(6)], metadata)

    assert len({tuple(answer) for answer in answers}) == 6
    assert all(detect(answer, ring.keys()).marked for answer in answers)


def test_same_seed_same_answer_through_the_opening(
    engine_config: EngineConfig, ring: Keyring, metadata: Metadata
) -> None:
    processor = MarkProcessor(engine_config(), torch.device("cpu"), False)

    first = generate(processor, [params(ring, seed=5), params(ring, seed=6)], metadata)
    second = generate(processor, [params(ring, seed=5), params(ring, seed=6)], metadata)

    assert first[0][0] != first[1][0]
    assert [answer[0] for answer in first] == [answer[0] for answer in second]


def test_a_continued_answer_is_marked_as_one(processor: MarkProcessor, ring: Keyring) -> None:
    """Cut anywhere: the second engine makes the choices that the first would have made."""
    row = params(ring)
    output: list[int] = []
    for step in range(20):
        continued = SamplingParams(extra_args={**row.extra_args, "signet_answer_start": 3})
        both = BatchUpdate(
            batch_size=8,
            removed=[],
            added=[(0, row, [1, 2, 3], list(output)), (1, continued, [1, 2, 3, *output], [])],
            moved=[],
        )
        processor.update_state(both)
        logits = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(step)).repeat(2, 1)
        first, second = processor.apply(logits).argmax(dim=1).tolist()
        assert first == second
        output.append(first)
    assert detect(output, ring.keys()).tokens_scored == 20


def test_a_repetitive_answer_is_marked_once_a_context(processor: MarkProcessor, ring: Keyring) -> None:
    row, output = params(ring), [1, 2, 3, 4, 5, 1, 2, 3, 4]
    processor.update_state(batch([(0, row, output)]))
    logits = torch.randn(1, VOCABULARY)
    before = logits.clone()

    assert torch.equal(processor.apply(logits), before)
    output.append(77)
    assert not torch.equal(processor.apply(logits), before)


@pytest.mark.parametrize("fields", [{}, {"top_k": 5}, {"top_p": 0.5}])
@pytest.mark.parametrize("value", [-torch.inf, torch.nan])
def test_a_row_without_a_finite_logit_is_left_to_vllm(
    processor: MarkProcessor, ring: Keyring, fields: dict[str, Any], value: float
) -> None:
    processor.update_state(batch([(0, params(ring, **fields), [])]))
    logits = torch.full((1, 64), value)

    assert not np.isfinite(processor.apply(logits).numpy()).any()


def test_validation_lets_issued_keys_and_unmarked_requests_pass(processor: MarkProcessor, ring: Keyring) -> None:
    for passes in (params(ring), params(ring, None), params(ring, "new-since-the-start")):
        MarkProcessor.validate_params(passes)

    elsewhere = Keyring.open(ring.path.with_name("others.json"), create=True)
    with pytest.raises(ValueError, match="vllm_xargs"):
        MarkProcessor.validate_params(params(elsewhere))


@pytest.mark.parametrize("permit", ["", "acme", "mk1-" + "0" * 20, "mk2-" + "0" * 20, "mk1-" + "0" * 20 + ".00", "."])
def test_validation_refuses_keys_nobody_issued(processor: MarkProcessor, permit: str) -> None:
    with pytest.raises(ValueError, match="vllm_xargs"):
        MarkProcessor.validate_params(SamplingParams(extra_args={"signet_mark": "gumbel", "signet_key": permit}))


def test_validation_refuses_whoever_knows_an_id_only(processor: MarkProcessor, ring: Keyring) -> None:
    """Ids stand in every answer's header and receipt."""
    key = ring.mark_key("acme")
    for permit in (key.id, f"{key.id}.", f"{key.id}.{'0' * 32}", f"{key.id}.é", key.permit("kgw"), key.permit() + "0"):
        with pytest.raises(ValueError, match="not asked for by a holder of this keyring"):
            MarkProcessor.validate_params(SamplingParams(extra_args={"signet_mark": "gumbel", "signet_key": permit}))


def test_validation_refuses_marks_where_there_is_no_keyring(engine_config: EngineConfig, ring: Keyring) -> None:
    MarkProcessor(engine_config({}), torch.device("cpu"), False)

    MarkProcessor.validate_params(params(ring, None))
    with pytest.raises(ValueError, match="no keyring"):
        MarkProcessor.validate_params(params(ring))


def test_validation_refuses_marks_before_the_configuration_was_seen(ring: Keyring) -> None:
    with pytest.raises(ValueError, match="has not seen the engine's configuration"):
        MarkProcessor.validate_params(params(ring))
