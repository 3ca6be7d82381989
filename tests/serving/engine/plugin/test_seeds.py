"""Draws that are discarded, on a runner that does what vLLM's does with them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from serving.engine.plugin.seeds import rewind_cpu_generators

DISCARDED, KEPT = 0, 1


class Runner:
    def __init__(self) -> None:
        generators = {row: torch.Generator().manual_seed(row) for row in (DISCARDED, KEPT)}
        self.input_batch = SimpleNamespace(num_reqs=3, generators=generators)
        self.discard_request_mask = SimpleNamespace(np=np.array([True, False, True, True]))

    def _sample(self) -> dict[int, float]:
        return {row: float(torch.rand(1, generator=each)) for row, each in self.input_batch.generators.items()}

    def _bookkeeping_sync(self) -> set[int]:
        for row in np.flatnonzero(self.discard_request_mask.np[: self.input_batch.num_reqs]).tolist():
            if row in self.input_batch.generators:
                self.input_batch.generators[row].set_offset(0)
        return set(self.input_batch.generators)


def test_what_is_stood_in_for_fails_as_vllms_does() -> None:
    with pytest.raises(RuntimeError, match="does not use offset"):
        Runner()._bookkeeping_sync()


class DecoratedRunner(Runner):
    _sample = torch.inference_mode()(Runner._sample)


@pytest.mark.parametrize("base", [Runner, DecoratedRunner])
def test_a_discarded_draw_is_drawn_again_and_others_go_on(base: type[Runner]) -> None:
    class Changed(base):  # type: ignore[misc,valid-type]
        pass

    for _ in range(2):  # vLLM may build its processors more than once
        rewind_cpu_generators(Changed)
    runner = Changed()

    first = runner._sample()
    runner._bookkeeping_sync()
    second = runner._sample()

    assert second[DISCARDED] == first[DISCARDED]
    assert second[KEPT] != first[KEPT]
    assert set(runner.input_batch.generators) == {DISCARDED, KEPT}


def test_a_class_is_changed_once() -> None:
    class Changed(DecoratedRunner):
        pass

    rewind_cpu_generators(Changed)
    sample, book = Changed._sample, Changed._bookkeeping_sync
    rewind_cpu_generators(Changed)

    assert (Changed._sample, Changed._bookkeeping_sync) == (sample, book)
