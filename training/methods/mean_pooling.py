"""Mean pooling as one more layer of BERT's own kind, so that whatever serves BERT serves it unmodified.

BERT's classification head reads the first token alone. A layer whose queries and keys are zero attends to all tokens
alike, padding excepted: what it adds to the first token is the mean of their states (Reimers and Gurevych 2019 pool
so, outside of the model).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers import BertForSequenceClassification

from training.errors import RecipeError
from training.evaluate.classification import POOLING
from training.methods.students import layers_of

# The mean is added to the first token's own state, which is left with a part of one in so many.
_WEIGHT_OF_MEAN = 32.0
# The pooler's tanh bends what it is given; so little of it hardly at all.
_POOLER_SCALE = 0.25


def pool_means(model: Any) -> None:
    """Have the head of an encoder of BERT's kind read the normalized mean of the uppermost layer's states.

    Raises RecipeError for other kinds. A model that does so already is left as it is.
    """
    if not isinstance(model, BertForSequenceClassification):
        raise RecipeError(f"pooling: mean is for BERT-like encoders, and this is a {type(model).__name__}")
    if getattr(model.config, POOLING, None) == "mean":
        return
    layers = layers_of(model)
    layer: Any = copy.deepcopy(layers[-1])
    attention = layer.attention
    with torch.no_grad():
        for linear, scale in (
            (attention.self.query, 0.0),
            (attention.self.key, 0.0),
            (attention.self.value, 1.0),
            (attention.output.dense, _WEIGHT_OF_MEAN),
            (model.bert.pooler.dense, _POOLER_SCALE),
        ):
            nn.init.eye_(linear.weight).mul_(scale)
            nn.init.zeros_(linear.bias)
        # The network behind the attention says nothing until it learns to.
        nn.init.zeros_(layer.output.dense.weight)
        nn.init.zeros_(layer.output.dense.bias)
        for norm in (attention.output.LayerNorm, layer.output.LayerNorm):
            nn.init.ones_(norm.weight)
            nn.init.zeros_(norm.bias)
    layers.append(layer)
    model.config.num_hidden_layers += 1
    setattr(model.config, POOLING, "mean")
