"""The logits processor that marks: vLLM loads it through the entry point group `vllm.logits_processors`.

It loads in every vLLM server of the environment, so it does nothing unless the engine was given a keyring and a
request asks for a mark. On runner V1, a processor that calls itself argmax-invariant runs after grammar, penalties,
temperature and min-p, and before top-k and top-p; those two it applies itself to find the tokens that may win.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from vllm.v1.sample.logits_processor import LogitsProcessor, process_dict_updates
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as RunnerV2LogitsProcessor

from serving.engine.plugin.arguments import GREEN_SCHEMES, mark_arguments
from serving.engine.plugin.readiness import UNSEEN, Readiness, readiness
from serving.engine.plugin.row import MarkedRow
from serving.engine.plugin.seeds import rewind_cpu_generators
from serving.engine.plugin.survivors import collision_nats, survivors
from serving.engine.plugin.words import chance_seed
from serving.provenance.keyring import KeyringError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from vllm import SamplingParams
    from vllm.config import VllmConfig
    from vllm.v1.sample.logits_processor import BatchUpdate

    from serving.engine.plugin.slots import Slot, Slots

log = logging.getLogger(__name__)

# vLLM treats lower temperatures as greedy and never samples such rows.
GREEDY_BELOW = 1e-5
# What the chosen token's logit becomes: it outweighs every other by more than any sampler's noise, survives any
# top-k and top-p, and unlike infinity goes through a softmax.
CERTAIN = np.float32(1e30)


class MarkProcessor(LogitsProcessor, RunnerV2LogitsProcessor):  # type: ignore[misc]
    """Marks the rows that ask for it, on either of vLLM's runners; runner V2 hands it its requests' state."""

    # What `validate_params`, a class method of the server's process, knows of the engine; set once at start-up.
    ready: ClassVar[Readiness] = Readiness(None, UNSEEN)

    def __init__(self, vllm_config: VllmConfig, *runner_state: Any) -> None:
        MarkProcessor.ready = self._ready = readiness(vllm_config)
        if vllm_config.device_config.device_type == "cpu":
            # Here, as vLLM builds its processors in the process that has read the runner's module, and in no other.
            from vllm.v1.worker.gpu_model_runner import GPUModelRunner

            rewind_cpu_generators(GPUModelRunner)
        self._rows: dict[int, MarkedRow] = {}
        self._slots: Slots | None = None
        self._chance = random.Random(vllm_config.model_config.seed)  # noqa: S311 - not a secret
        if self._ready.keyring is not None and self._ready.runner_v2:
            from serving.engine.plugin.slots import Slots

            (state,) = runner_state
            self._state = state
            self._slots = Slots(state, self._ready.kgw_delta)
        elif self._ready.keyring is not None:
            from serving.engine.plugin import draws  # compiles: only where marks are made, and before any request

            draws.warm_up()
            self._make_draw = draws.make_draw

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse what cannot be marked as asked. Raises ValueError: the client sees HTTP 400."""
        wanted = mark_arguments(sampling_params.extra_args)
        if wanted is None:
            return
        try:
            keyring = cls.ready.require()
            keyring.check_permit(wanted.permit, wanted.scheme)
        except KeyringError as error:
            raise ValueError(f"vllm_xargs: {error}") from None
        if keyring.is_revoked(wanted.key_id):
            raise ValueError(f"vllm_xargs: the key {wanted.key_id!r} is revoked")
        if why := cls.ready.lacks.get(wanted.scheme):
            raise ValueError(f"vllm_xargs: this engine makes no {wanted.scheme} marks: {why}")

    def is_argmax_invariant(self) -> bool:
        """True puts `apply` behind the temperature; greedy rows are left alone, so it is also so."""
        return True

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow requests that come, go and move within the batch."""
        process_dict_updates(self._rows, batch_update, self._new_row)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """Runner V2's way of telling who comes. Returns whether the request's logits are changed."""
        if self._slots is None:
            return False
        slot = self._new_slot(req_idx, sampling_params)
        self._slots.put(req_idx, slot)
        return slot is not None

    def apply(self, logits: torch.Tensor, ctx: Any = None) -> torch.Tensor:
        """logits [requests, V], float32: in each marked row, make the keyed choice the certain one."""
        if self._slots is not None:
            self._slots.mark(logits, ctx)
        for index, row in self._rows.items():
            self._mark(logits[index].numpy(), row)
        return logits

    def _mark(self, logits: NDArray[np.float32], row: MarkedRow) -> None:
        context = row.next_context()
        if context is None or not logits.max() > -np.inf:  # the latter also where a logit is NaN
            return
        filtered = row.top_p < 1 or 0 < row.top_k < logits.size
        among = survivors(logits, row.top_k, row.top_p) if filtered else None
        if row.in_opening():
            possible = logits if among is None else logits[among]
            row.note_opening(collision_nats(np.exp(possible - possible.max())))
            return
        winner = row.draw(logits, among, context, len(row.output))
        if winner >= 0:
            logits[winner] = CERTAIN

    def _new_row(self, params: SamplingParams, prompt: list[int] | None, output: list[int]) -> MarkedRow | None:
        wanted = mark_arguments(params.extra_args)
        if wanted is None or wanted.scheme in GREEN_SCHEMES or params.temperature < GREEDY_BELOW:
            return None
        # The server's process has let this request through, so key and keyring are there. Should they not be, one
        # engine that stops is better than a tenant's answers that go out unmarked in silence.
        seed = self._ready.require().seed(wanted.key_id, wanted.scheme)
        draw = self._make_draw(wanted.scheme, seed, chance_seed(params.seed, self._chance))
        return MarkedRow(draw, output, params.top_k, params.top_p, self._ready.opening_nats, wanted.sent(prompt))

    def _new_slot(self, index: int, params: SamplingParams) -> Slot | None:
        from serving.engine.plugin.slots import Slot

        wanted = mark_arguments(params.extra_args)
        if wanted is None or (wanted.scheme not in GREEN_SCHEMES and params.temperature < GREEDY_BELOW):
            return None
        prompt, filled = (int(length.np[index]) for length in (self._state.prompt_len, self._state.prefill_len))
        start = prompt if wanted.answer_start is None else min(wanted.answer_start, prompt)
        return Slot(
            scheme=wanted.scheme,
            seed=self._ready.require().seed(wanted.key_id, wanted.scheme),
            chance_seed=chance_seed(params.seed, self._chance),
            temperature=params.temperature,
            top_k=params.top_k,
            top_p=params.top_p,
            min_p=params.min_p,
            answer_start=start,
            # As in `MarkedRow`: over in a request that was preempted or begun elsewhere.
            opening_nats=self._ready.opening_nats if filled == start else 0.0,
        )
