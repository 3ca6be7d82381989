"""One class for each path of the API: what is text, usage and an error there, and what the gateway writes itself."""

from serving.gateway.endpoints.chat import CHAT, COMPLETIONS
from serving.gateway.endpoints.embeddings import EMBEDDINGS
from serving.gateway.endpoints.endpoint import Endpoint
from serving.gateway.endpoints.messages import COUNT_TOKENS, MESSAGES
from serving.gateway.endpoints.responses import RESPONSES
from serving.gateway.endpoints.tokens import DETOKENIZE, TOKENIZE

ENDPOINTS: dict[str, Endpoint] = {
    endpoint.path: endpoint
    for endpoint in (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES, COUNT_TOKENS, TOKENIZE, DETOKENIZE)
}
"""By path."""

__all__ = ["CHAT", "COMPLETIONS", "ENDPOINTS", "Endpoint"]
