"""Runner V2 on hand-made state: choices are those of runner V1, slots are recycled, histories read as they stand.

A run on a GPU is not part of these tests; the operations are the same there.
"""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessors
from vllm.v1.sample.sampler import Sampler
from vllm.v1.watermarking import DualKeyGumbelWatermarkDetector
from vllm.v1.worker.gpu.sample.logits_processor import build_custom_logits_processors_params_validator

from serving.engine.plugin import GreenProcessor, MarkProcessor
from serving.provenance import Keyring
from serving.provenance.schemes import SCHEMES

VOCABULARY, SLOTS, LENGTH = 1000, 6, 400
PROMPT = [1, 2, 3]
EngineConfig = Callable[..., Any]


class Runner:
    """As much of runner V2 as a processor sees: slots with token histories, and batches in any order."""

    def __init__(self, engine_config: EngineConfig, ring: Keyring, **section: Any) -> None:
        def lengths() -> Any:
            values = torch.zeros(SLOTS, dtype=torch.int32)
            return SimpleNamespace(gpu=values, np=values.numpy())

        self.state = SimpleNamespace(
            device=torch.device("cpu"),
            max_num_reqs=SLOTS,
            vocab_size=VOCABULARY,
            all_token_ids=SimpleNamespace(gpu=torch.full((SLOTS, LENGTH), 77, dtype=torch.int32)),
            prompt_len=lengths(),
            prefill_len=lengths(),
            total_len=lengths(),
        )
        section = {"keyring": str(ring.path), "opening_nats": 0, **section}
        self.processor = MarkProcessor(engine_config(section, use_v2_model_runner=True), self.state)

    def add(self, slot: int, params: SamplingParams, answer: list[int] | None = None, prompt: int = 3) -> bool:
        tokens = [*PROMPT, *(answer or [])]
        self.state.all_token_ids.gpu[slot, : len(tokens)] = torch.tensor(tokens, dtype=torch.int32)
        self.state.prompt_len.np[slot] = prompt
        self.state.prefill_len.np[slot] = self.state.total_len.np[slot] = len(tokens)
        return bool(self.processor.add_request(slot, params))

    def apply(self, slots: list[int], logits: torch.Tensor) -> torch.Tensor:
        totals = self.state.total_len.np[slots]
        context = SimpleNamespace(idx_mapping_np=np.array(slots), seq_lens_upper_bound_np=totals)
        return self.processor.apply(logits, context)

    def append(self, slot: int, token: int) -> None:
        total = int(self.state.total_len.np[slot])
        self.state.all_token_ids.gpu[slot, total] = token
        self.state.total_len.np[slot] = total + 1

    def answer(self, slot: int) -> list[int]:
        ids: list[int] = self.state.all_token_ids.gpu[slot, 3 : int(self.state.total_len.np[slot])].tolist()
        return ids

    def write(self, slots: list[int], steps: int) -> None:
        """What greedy picks from what the processor leaves: the chosen token, or the likeliest."""
        rng = torch.Generator().manual_seed(3)
        for _ in range(steps):
            logits = torch.randn(1, VOCABULARY, generator=rng).mul(2).repeat(len(slots), 1)
            for slot, token in zip(slots, self.apply(slots, logits).argmax(dim=1).tolist(), strict=True):
                self.append(slot, token)


@pytest.fixture
def runner(engine_config: EngineConfig, ring: Keyring) -> Runner:
    return Runner(engine_config, ring)


def params(ring: Keyring, scheme: str | None = "gumbel", tenant: str = "acme", **fields: Any) -> SamplingParams:
    extra = {"signet_mark": scheme, "signet_key": ring.mark_key(tenant).permit(scheme)} if scheme else None
    return SamplingParams(extra_args=extra, **fields)


def p_value(ring: Keyring, scheme: str, ids: list[int], tenant: str = "acme") -> float:
    reader = SCHEMES[scheme]
    pairs = reader.pairs(ids)
    seed = ring.seed(ring.mark_key(tenant).id, scheme)
    return math.exp(reader.log_p_value(float(reader.token_scores([seed], pairs).sum()), len(pairs)))


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"temperature": 1.0}, id="plain"),
        pytest.param({"temperature": 0.7, "top_k": 50, "top_p": 0.95}, id="top-k-top-p"),
        pytest.param({"temperature": 1.2, "top_p": 0.5}, id="top-p"),
        pytest.param({"temperature": 1.0, "min_p": 0.1}, id="min-p"),
    ],
)
def test_choices_are_those_of_runner_v1(
    runner: Runner,
    engine_config: EngineConfig,
    ring: Keyring,
    metadata: Callable[..., Any],
    fields: dict[str, Any],
) -> None:
    row, output = params(ring, **fields), []
    first = MarkProcessor(engine_config({"keyring": str(ring.path), "opening_nats": 0}), torch.device("cpu"), False)
    first.update_state(BatchUpdate(batch_size=8, removed=[], added=[(0, row, PROMPT, output)], moved=[]))
    runner.add(4, row)
    for step in range(40):
        logits = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(step)).mul(2)
        second = int(runner.apply([4], logits.clone()).argmax())
        if row.min_p:  # of runner V1's own processors, which are not among ours
            scaled = logits / row.temperature
            logits[scaled < scaled.max() + math.log(row.min_p)] = -torch.inf
        token = int(Sampler()(logits, metadata(LogitsProcessors([first]), [row], VOCABULARY)).sampled_token_ids)
        assert second == token
        output.append(token)
        runner.append(4, token)


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_every_scheme_is_found_beside_rows_of_others(runner: Runner, ring: Keyring, scheme: str) -> None:
    assert runner.add(5, params(ring, scheme))
    assert runner.add(0, params(ring, scheme, tenant="beta"))
    assert not runner.add(2, params(ring, None))

    runner.write([0, 2, 5], 80)

    assert p_value(ring, scheme, runner.answer(5)) < 1e-9
    assert p_value(ring, scheme, runner.answer(0), "beta") < 1e-9
    assert p_value(ring, scheme, runner.answer(0)) > 1e-3
    assert p_value(ring, scheme, runner.answer(2)) > 1e-3


def test_vllms_detector_reads_dual_keys(runner: Runner, ring: Keyring) -> None:
    runner.add(1, params(ring, "dual-gumbel", seed=-3))

    runner.write([1], 80)

    seed = ring.seed(ring.mark_key("acme").id, "dual-gumbel")
    assert DualKeyGumbelWatermarkDetector(seed).detect(runner.answer(1)).p_value < 1e-9


def test_green_lists_are_those_of_runner_v1_and_greedy_too(
    runner: Runner, engine_config: EngineConfig, ring: Keyring
) -> None:
    row = params(ring, "kgw", temperature=0.0)
    runner.add(3, row, [5, 6])
    first = GreenProcessor(engine_config(), torch.device("cpu"), False)
    first.update_state(BatchUpdate(batch_size=8, removed=[], added=[(0, row, PROMPT, [5, 6])], moved=[]))

    assert torch.equal(runner.apply([3], torch.zeros(1, VOCABULARY)), first.apply(torch.zeros(1, VOCABULARY)))


def test_a_recycled_slot_forgets_its_last_request(runner: Runner, ring: Keyring) -> None:
    runner.add(1, params(ring))
    runner.write([1], 5)

    assert not runner.add(1, params(ring, None))

    logits = torch.randn(1, VOCABULARY)
    assert torch.equal(runner.apply([1], logits.clone()), logits)
    runner.add(1, params(ring))
    assert not torch.equal(runner.apply([1], logits.clone()), logits)


def test_greedy_rows_of_other_schemes_are_left_alone(runner: Runner, ring: Keyring) -> None:
    assert not runner.add(1, params(ring, temperature=0.0))


def test_a_repeated_context_is_left_to_vllm(runner: Runner, ring: Keyring) -> None:
    runner.add(1, params(ring), [1, 2, 3, 4, 5, 1, 2, 3, 4])
    logits = torch.randn(1, VOCABULARY)

    assert torch.equal(runner.apply([1], logits.clone()), logits)
    runner.append(1, 99)
    assert not torch.equal(runner.apply([1], logits.clone()), logits)


def test_the_prompt_is_no_context_and_a_continued_answer_is_one(runner: Runner, ring: Keyring) -> None:
    """What follows the prompt in one request follows the sent part in the next."""
    row = params(ring)
    continued = SamplingParams(extra_args={**row.extra_args, "signet_answer_start": 3})
    for answer in ([], [9], [9, 8, 7, 6, 5], [1, 2, 3, 4, 5, 1, 2, 3, 4]):
        runner.add(0, row, answer)
        runner.add(1, continued, answer, prompt=3 + len(answer))
        logits = torch.randn(1, VOCABULARY).repeat(2, 1)

        first, second = runner.apply([0, 1], logits)

        assert torch.equal(first, second)


def test_masked_tokens_never_win_and_rows_without_a_finite_logit_stay(runner: Runner, ring: Keyring) -> None:
    for slot, scheme in enumerate(("gumbel", "dual-gumbel", "synthid")):
        runner.add(slot, params(ring, scheme), [5, 6, 7, 8])
    logits = torch.full((3, VOCABULARY), -torch.inf)
    assert torch.isinf(runner.apply([0, 1, 2], logits.clone())).all()

    logits[:, [17, 900]] = 0.0

    assert set(runner.apply([0, 1, 2], logits).argmax(dim=1).tolist()) <= {17, 900}


def test_the_opening_is_left_to_vllm_and_a_step_computed_again_counts_once(
    engine_config: EngineConfig, ring: Keyring
) -> None:
    runner = Runner(engine_config, ring, opening_nats=10.0)
    runner.add(2, params(ring))
    logits = torch.zeros(1, VOCABULARY)  # log 1000 = 6.9 nats a token
    for _ in range(4):
        assert torch.equal(runner.apply([2], logits.clone()), logits)

    runner.append(2, 5)
    assert torch.equal(runner.apply([2], logits.clone()), logits)
    runner.append(2, 6)

    assert not torch.equal(runner.apply([2], logits.clone()), logits)


def test_the_opening_of_a_preempted_request_is_over(engine_config: EngineConfig, ring: Keyring) -> None:
    runner = Runner(engine_config, ring, opening_nats=10.0)
    runner.add(2, params(ring), [5, 6])

    assert (runner.apply([2], torch.zeros(1, VOCABULARY)) != 0).any()


def test_vllms_loader_takes_both_and_lefthash_is_refused(
    runner: Runner, engine_config: EngineConfig, ring: Keyring
) -> None:
    validate = build_custom_logits_processors_params_validator(None)
    green = GreenProcessor(engine_config(use_v2_model_runner=True), runner.state)
    logits = torch.randn(1, VOCABULARY)

    assert not green.add_request(0, params(ring, "kgw"))
    assert green.apply(logits, object()) is logits
    for scheme in (None, *SCHEMES):
        validate(params(ring, scheme))
    with pytest.raises(VLLMValidationError, match="CPU engines only"):
        validate(params(ring, "kgw-lefthash"))
