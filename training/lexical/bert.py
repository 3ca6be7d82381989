"""BERT with a lexical part, as transformers saves and loads it."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from training.errors import RecipeError
from training.lexical.counts import LexicalPart


class LexicalBertConfig(BertConfig):
    """BERT's, under a name of its own: what knows BERT alone would leave the lexical part out and say nothing."""

    model_type = "signet_lexical_bert"


class LexicalBertModel(BertModel):
    """The encoder alone: what the tokens themselves say is for its head."""

    config_class = LexicalBertConfig


class LexicalBertForSequenceClassification(BertForSequenceClassification):
    """BERT's logits and those of the tokens themselves."""

    config_class = LexicalBertConfig

    def __init__(self, config: LexicalBertConfig) -> None:
        super().__init__(config)
        self.lexical = LexicalPart(config.vocab_size, config.num_labels)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **options: Any,
    ) -> SequenceClassifierOutput:
        """Logits of padded texts, (texts, labels); no loss, as BERT's own would leave the tokens out."""
        options.pop("labels", None)
        said = super().forward(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, **options
        )
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rows, columns = mask.nonzero(as_tuple=True)
        said.logits = said.logits + self.lexical(input_ids[rows, columns], rows, len(input_ids)).to(said.logits.dtype)
        return said


def with_lexical_part(model: Any, idf_V: torch.Tensor, weight_VC: torch.Tensor) -> Any:
    """The same model, and what each token says for each label. Raises RecipeError for what is not of BERT's kind."""
    if not isinstance(model, BertForSequenceClassification):
        raise RecipeError(f"lexical is for encoders of BERT's kind, and this is a {type(model).__name__}")
    made: Any = LexicalBertForSequenceClassification(LexicalBertConfig(**_described(model)))
    made.load_state_dict({**model.state_dict(), "lexical.idf": idf_V, "lexical.weight": weight_VC})
    return made.to(model.device)


def without_lexical_part(model: Any) -> Any:
    """The encoder and its head alone; other models are returned as they are."""
    if not isinstance(model, LexicalBertForSequenceClassification):
        return model
    plain: Any = BertForSequenceClassification(BertConfig(**_described(model)))
    plain.load_state_dict(model.state_dict(), strict=False)
    return plain.to(model.device)


def _described(model: Any) -> dict[str, Any]:
    described: dict[str, Any] = model.config.to_dict()
    return {name: value for name, value in described.items() if name not in ("model_type", "architectures")}


AutoConfig.register(LexicalBertConfig.model_type, LexicalBertConfig)
AutoModel.register(LexicalBertConfig, LexicalBertModel)
AutoModelForSequenceClassification.register(LexicalBertConfig, LexicalBertForSequenceClassification)
