"""The logits processor that marks: vLLM loads it through the entry point group `vllm.logits_processors`.

It loads in every vLLM server of the environment, so it does nothing unless the engine was given a keyring and a
request asks for a mark. On runner V1, a processor that calls itself argmax-invariant runs after grammar, penalties,
temperature and min-p, and before top-k and top-p; those two it applies itself to find the tokens that may win.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from vllm.v1.sample.logits_processor import LogitsProcessor, process_dict_updates
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as RunnerV2LogitsProcessor

from serving.engine.plugin.arguments import GREEN_SCHEMES, mark_arguments
from serving.engine.plugin.readiness import UNSEEN, Readiness, readiness
from serving.engine.plugin.row import MarkedRow
from serving.engine.plugin.survivors import collision_nats, survivors
from serving.provenance.keyring import KeyringError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from vllm import SamplingParams
    from vllm.config import VllmConfig
    from vllm.v1.sample.logits_processor import BatchUpdate

log = logging.getLogger(__name__)

# vLLM treats lower temperatures as greedy and never samples such rows.
GREEDY_BELOW = 1e-5
# What the chosen token's logit becomes: it outweighs every other by more than any sampler's noise, survives any
# top-k and top-p, and unlike infinity goes through a softmax.
CERTAIN = np.float32(1e30)


class MarkProcessor(LogitsProcessor, RunnerV2LogitsProcessor):  # type: ignore[misc]
    """Marks the rows that ask for it.

    Also a subclass of runner V2's interface, because vLLM refuses to start where an installed plugin is not; there
    it changes nothing, and requests for a mark are refused.
    """

    # What `validate_params`, a class method of the server's process, knows of the engine; set once at start-up.
    ready: ClassVar[Readiness] = Readiness(None, UNSEEN)

    def __init__(self, vllm_config: VllmConfig, *runner_state: Any) -> None:
        MarkProcessor.ready = self._ready = readiness(vllm_config)
        self._rows: dict[int, MarkedRow] = {}
        if self._ready.keyring is not None:
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
            keyring.seed(wanted.key_id, wanted.scheme)
        except KeyringError as error:
            raise ValueError(f"vllm_xargs: {error}") from None
        if keyring.is_revoked(wanted.key_id):
            raise ValueError(f"vllm_xargs: the key {wanted.key_id!r} is revoked")

    def is_argmax_invariant(self) -> bool:
        """True puts `apply` behind the temperature; greedy rows are left alone, so it is also so."""
        return True

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow requests that come, go and move within the batch."""
        process_dict_updates(self._rows, batch_update, self._new_row)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """Runner V2 asks whether a request's logits are changed: none are, see `readiness`."""
        return False

    def apply(self, logits: torch.Tensor, ctx: object = None) -> torch.Tensor:
        """logits [requests, V], float32: in each marked row, make the keyed choice the certain one."""
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
        draw = self._make_draw(wanted.scheme, seed, params.seed)
        return MarkedRow(draw, output, params.top_k, params.top_p, self._ready.opening_nats, wanted.sent(prompt))
