"""The green list's processor: adds to the logits of green tokens, of greedy requests too.

vLLM applies it where logits may still change the likeliest token: before penalties and temperature, on every row. It is
registered beside `MarkProcessor`, which checks requests for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from vllm.v1.sample.logits_processor import LogitsProcessor, process_dict_updates
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as RunnerV2LogitsProcessor

from serving.engine.plugin.arguments import GREEN_SCHEMES, mark_arguments
from serving.engine.plugin.contexts import Contexts
from serving.engine.plugin.readiness import readiness
from serving.engine.plugin.words import context_words, key_words
from serving.provenance.schemes import BEFORE_THE_ANSWER, lefthash
from serving.provenance.schemes.kgw import CONTEXT_WIDTH, GREEN_SHARE

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from vllm import SamplingParams
    from vllm.config import VllmConfig
    from vllm.v1.sample.logits_processor import BatchUpdate

# Of 12,288 tokens each, for a vocabulary of 49,152: 25 MB.
LISTS_KEPT = 512


class GreenRow:
    """A request with the lists of Philox draws; after a context that the answer had before nothing is added."""

    def __init__(self, seed: int, output: list[int], sent: Sequence[int]) -> None:
        self._key = key_words(seed)
        self._contexts = Contexts(output, CONTEXT_WIDTH, sent)

    def add(self, logits: NDArray[np.float32], delta: float) -> None:
        from serving.engine.plugin import green_kernel

        context = self._contexts.unused()
        if context is not None:
            green_kernel.add_green(logits, self._key, context_words(context), np.float32(delta))


class LefthashRow:
    """A request with transformers' lists. They follow from one token, which soon comes again; each time counts."""

    def __init__(self, seed: int, output: list[int], sent: Sequence[int]) -> None:
        self._seed = seed
        self._contexts = Contexts(output, 1, sent)

    def add(self, logits: NDArray[np.float32], delta: float) -> None:
        (last,) = self._contexts.current()
        if last != BEFORE_THE_ANSWER:
            logits[green_list(self._seed, last, logits.size)] += np.float32(delta)


class GreenProcessor(LogitsProcessor, RunnerV2LogitsProcessor):  # type: ignore[misc]
    """Marks the rows that ask for a green list. Under runner V2 `MarkProcessor` does that as well."""

    def __init__(self, vllm_config: VllmConfig, *runner_state: Any) -> None:
        self._ready = readiness(vllm_config)
        self._rows: dict[int, GreenRow | LefthashRow] = {}
        if self._ready.keyring is not None:
            from serving.engine.plugin import green_kernel  # compiles: only where marks are made

            green_kernel.warm_up()

    def is_argmax_invariant(self) -> bool:
        """False puts `apply` before the choice of the likeliest token."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow requests that come, go and move within the batch."""
        process_dict_updates(self._rows, batch_update, self._new_row)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """Runner V2 asks whether a request's logits are changed."""
        return False

    def apply(self, logits: torch.Tensor, ctx: object = None) -> torch.Tensor:
        """logits [requests, V], float32."""
        for index, row in self._rows.items():
            row.add(logits[index].numpy(), self._ready.kgw_delta)
        return logits

    def _new_row(
        self, params: SamplingParams, prompt: list[int] | None, output: list[int]
    ) -> GreenRow | LefthashRow | None:
        wanted = mark_arguments(params.extra_args)
        if wanted is None or wanted.scheme not in GREEN_SCHEMES:
            return None
        seed = self._ready.require().seed(wanted.key_id, wanted.scheme)
        kind = LefthashRow if wanted.scheme == lefthash.NAME else GreenRow
        return kind(seed, output, wanted.sent(prompt))


@lru_cache(LISTS_KEPT)
def green_list(seed: int, last_token: int, vocabulary_size: int) -> NDArray[np.int32]:
    """As `lefthash.green_list`, compiled and kept: a language has few words that come often."""
    from serving.engine.plugin import green_kernel

    steps = int(vocabulary_size * GREEN_SHARE)
    random = np.random.RandomState(lefthash.twister_seed(seed, last_token))
    green: NDArray[np.int32] = green_kernel.shuffled(random.randint(0, 2**32, steps, dtype=np.uint32), vocabulary_size)
    return green
