from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from training.evaluate import resolve_source
from training.evaluate.loading import load_model, load_tokenizer
from training.export.greedy import TEXTS, Expected, expected_answers
from training.registry import Registry


@pytest.mark.slow
def test_what_is_expected_is_what_the_model_says_of_the_whole_text(tiny: Registry, tiny_model_folder: Path) -> None:
    model: Any = load_model(resolve_source("tiny", tiny, False), torch.float32).eval()

    for answer in expected_answers(model, load_tokenizer(tiny_model_folder), TEXTS[:4], 6):
        with torch.inference_mode():
            logits_LV = model(torch.tensor([[*answer.prompt, *answer.tokens]]), use_cache=False).logits[0]
        assert answer.tokens == logits_LV[len(answer.prompt) - 1 : -1].argmax(-1).tolist()
        best = logits_LV[len(answer.prompt) - 1 : -1].topk(2).values
        assert answer.margins == pytest.approx((best[:, 0] - best[:, 1]).tolist(), abs=1e-4)


def test_runtimes_may_part_only_where_two_tokens_are_nearly_as_likely() -> None:
    expected = Expected("text", [1, 2], [5, 6, 7], [1.0, 5e-4, 1.0])

    assert expected.agrees([1, 2], [5, 6, 7])
    assert expected.agrees([1, 2], [5, 9, 9])
    assert not expected.agrees([1, 2], [5, 6, 9])
    assert not expected.agrees([1, 3], [5, 6, 7])
    assert not expected.agrees([1, 2], [5, 6])
