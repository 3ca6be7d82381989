from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.support.tiny_bert import write_tiny_bert
from training.errors import RecipeError
from training.methods.mean_pooling import pool_means
from training.methods.students import keep_layers

TEXTS = [[2, 9, 10, 11, 12, 3], [2, 20, 3]]


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(write_tiny_bert(tmp_path / "bert")).eval()


def states(model: Any, layer: int, rows: list[list[int]]) -> torch.Tensor:
    """Behind a layer, of rows that are padded to the longest."""
    length = max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    with torch.inference_mode():
        said = model(input_ids=ids, attention_mask=(ids != 0).long(), output_hidden_states=True)
    found: torch.Tensor = said.hidden_states[layer]
    return found


def test_the_first_token_is_the_mean_of_all_padded_or_not(model: Any) -> None:
    pool_means(model)
    width = model.config.hidden_size

    together = states(model, 3, TEXTS)
    for index, row in enumerate(TEXTS):
        mean = torch.nn.functional.layer_norm(states(model, 2, [row])[0].mean(0), (width,))
        alone = states(model, 3, [row])[0, 0]
        assert torch.allclose(together[index, 0], alone, atol=1e-5)
        assert (alone - mean).norm() / mean.norm() < 0.1
        assert torch.cosine_similarity(alone, mean, dim=0) > 0.995


def test_it_is_loaded_as_any_other_layer(model: Any, tmp_path: Path) -> None:
    pool_means(model)
    model.save_pretrained(tmp_path / "pooled")

    again: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "pooled").eval()

    assert again.config.num_hidden_layers == 3
    assert torch.equal(states(again, 3, TEXTS), states(model, 3, TEXTS))
    pool_means(again)
    assert again.config.num_hidden_layers == 3  # it has one


def test_what_is_not_of_berts_kind_is_said() -> None:
    with pytest.raises(RecipeError, match="pooling: mean is for BERT-like encoders, and this is a Linear"):
        pool_means(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(("kept", "pooling"), [([0, 2], "mean"), ([0, 1], None)])
def test_a_model_says_so_as_long_as_it_has_the_layer(model: Any, kept: list[int], pooling: str | None) -> None:
    pool_means(model)

    keep_layers(model, kept)

    assert model.config.signet_pooling == pooling
