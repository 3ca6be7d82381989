"""A language model to read, from its embeddings to its answers: what `method: pretrain` trains and studies vary.

In come token ids, out come logits. Read `config`, `attention`, `decoder`, then what else is of interest: `experts`,
`cache`, `decoding`, `encoder`. `saving` writes a decoder in the shape of Llama, Mistral or Mixtral, which engines
serve. Importing this package does not import torch; its modules other than `config` do.
"""

from training.model.config import ModelConfig

__all__ = ["ModelConfig"]
