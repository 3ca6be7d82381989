from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from tests.support.tiny_bert import write_tiny_bert
from training.errors import RecipeError
from training.lexical.bert import with_lexical_part, without_lexical_part

TEXTS = [[2, 9, 10, 9, 12, 3], [2, 20, 3]]


@pytest.fixture
def plain(tmp_path: Path) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(write_tiny_bert(tmp_path / "bert"), num_labels=3).eval()


@pytest.fixture
def model(plain: Any) -> Any:
    """Whose tokens say something at random."""
    vocabulary = plain.config.vocab_size
    return with_lexical_part(plain, torch.rand(vocabulary) + 1, torch.randn(vocabulary, 3)).eval()


def logits(model: Any, rows: list[list[int]]) -> torch.Tensor:
    length = max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=ids, attention_mask=(ids != 0).long()).logits
    return found


def test_padding_is_not_counted(model: Any) -> None:
    together = logits(model, TEXTS)

    for index, row in enumerate(TEXTS):
        assert torch.allclose(together[index], logits(model, [row])[0], atol=1e-5)


def test_tokens_add_to_what_the_encoder_says(plain: Any, model: Any) -> None:
    said = logits(model, TEXTS) - logits(plain, TEXTS)

    assert said.abs().min() > 1e-3
    shuffled = [[2, 12, 9, 9, 10, 3], TEXTS[1]]
    assert torch.allclose(said, logits(model, shuffled) - logits(plain, shuffled), atol=1e-5)
    assert torch.equal(logits(without_lexical_part(model).eval(), TEXTS), logits(plain, TEXTS))


def test_it_is_loaded_as_it_was_saved(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "saved")

    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()

    assert torch.equal(logits(again, TEXTS), logits(model, TEXTS))


def test_what_is_not_of_berts_kind_is_said() -> None:
    with pytest.raises(RecipeError, match="lexical is for encoders of BERT's kind, and this is a Linear"):
        with_lexical_part(nn.Linear(2, 2), torch.ones(2), torch.ones(2, 2))


def test_the_engines_pooler_says_what_transformers_does(model: Any) -> None:
    """Without an engine around it: of two texts in one row of tokens, as vLLM gives them."""
    engine = pytest.importorskip("training.lexical.engine")
    served: Any = engine.LexicalBertForSequenceClassification.__new__(engine.LexicalBertForSequenceClassification)
    nn.Module.__init__(served)
    served.width, served.lexical, served.classifier = model.config.hidden_size, model.lexical, model.classifier
    with torch.inference_mode():
        # The state of each token stands for the text's: the first one's is read.
        pooled = [model.bert(input_ids=torch.tensor([row])).pooler_output[0] for row in TEXTS]
        states = torch.cat([vector.repeat(len(row), 1) for vector, row in zip(pooled, TEXTS, strict=True)])
        ids = torch.tensor([float(token) for row in TEXTS for token in row])
        firsts = torch.tensor([0, len(TEXTS[0])])
        served.bert = nn.Module()
        served.bert.pooler = _FirstTokens(firsts)
        sizes = torch.tensor([len(row) for row in TEXTS])
        metadata = SimpleNamespace(get_pooling_cursor=lambda: SimpleNamespace(prompt_lens_cpu=sizes))
        said = served.add_up(served.pool(torch.cat([states, ids[:, None]], 1), metadata))

    assert torch.allclose(said, logits(model, TEXTS), atol=1e-5)


class _FirstTokens(nn.Module):
    """In place of vLLM's pooler."""

    def __init__(self, firsts: torch.Tensor) -> None:
        super().__init__()
        self.firsts = firsts
        self.dense = nn.Linear(1, 1)

    def forward(self, states: torch.Tensor, metadata: Any) -> torch.Tensor:
        return states[self.firsts]
