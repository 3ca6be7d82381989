"""Endpoints other than chat and completions: what is text, usage and an error in each, so that the pipeline stays one.

A request for one of them carries its `Dialect` in the context; chat and completions carry None and keep their own,
faster relay.
"""

from serving.gateway.dialects.dialect import Dialect
from serving.gateway.dialects.embeddings import EMBEDDINGS
from serving.gateway.dialects.messages import COUNT_TOKENS, MESSAGES
from serving.gateway.dialects.responses import RESPONSES
from serving.gateway.dialects.tokens import DETOKENIZE, TOKENIZE

DIALECTS: dict[str, Dialect] = {
    dialect.path: dialect for dialect in (EMBEDDINGS, RESPONSES, MESSAGES, COUNT_TOKENS, TOKENIZE, DETOKENIZE)
}
"""By path."""

__all__ = ["DIALECTS", "Dialect"]
