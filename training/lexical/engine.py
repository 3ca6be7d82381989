"""BERT with a lexical part in vLLM's pooling engine."""

from __future__ import annotations

from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.model_executor.layers.pooler import DispatchPooler
from vllm.model_executor.layers.pooler.seqwise import pooler_for_classify
from vllm.model_executor.models.bert import BertForSequenceClassification
from vllm.v1.pool.metadata import PoolingMetadata

from training.lexical.counts import LexicalPart


class LexicalBertForSequenceClassification(BertForSequenceClassification):
    """vLLM's BERT, whose pooler sees the token ids too: as one more column of the states."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        config = vllm_config.model_config.hf_config
        self.width: int = config.hidden_size
        self.lexical = LexicalPart(config.vocab_size, config.num_labels)
        pooler_config = vllm_config.model_config.pooler_config
        assert pooler_config is not None
        classify = pooler_for_classify(pooler_config, pooling=self.pool, classifier=self.add_up)
        self.pooler = DispatchPooler({"classify": classify})

    def forward(self, input_ids: torch.Tensor, *inputs: Any, **more: Any) -> torch.Tensor:
        """The states and ids of all tokens of a batch, (tokens, width + 1). fp32 holds ids up to 2^24 exactly."""
        ids = input_ids.float()
        states = super().forward(input_ids, *inputs, **more)
        return torch.cat([states.float(), ids[:, None]], 1)

    def pool(self, states: torch.Tensor, metadata: PoolingMetadata) -> torch.Tensor:
        """What the pooler says of each text, and what its tokens say for each label: (texts, width + labels)."""
        sizes = metadata.get_pooling_cursor().prompt_lens_cpu
        rows = torch.arange(len(sizes)).repeat_interleave(sizes).to(states.device)
        said = self.bert.pooler(states[:, : self.width].to(self.bert.pooler.dense.weight.dtype), metadata)
        tokens = self.lexical(states[:, self.width].long(), rows, len(sizes))
        return torch.cat([said.float(), tokens], 1)

    def add_up(self, pooled: torch.Tensor) -> torch.Tensor:
        """Logits, (texts, labels)."""
        said: torch.Tensor = self.classifier(pooled[:, : self.width])
        return said + pooled[:, self.width :]
