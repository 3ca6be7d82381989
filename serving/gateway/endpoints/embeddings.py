"""`/v1/embeddings`: text in, vectors out (https://platform.openai.com/docs/api-reference/embeddings)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from serving.gateway.endpoints.endpoint import Endpoint, Json, Usage, count_of, texts_in
from serving.gateway.errors import BadRequest

if TYPE_CHECKING:
    from serving.gateway.settings import GatewaySettings


class Embeddings(Endpoint):
    """Vectors pass through as they come, as lists or as base64; only the usage is read."""

    path = "/v1/embeddings"
    name = "embeddings"
    is_billed = True

    def check(self, body: Json, settings: GatewaySettings) -> None:
        texts = body.get("input")
        most = settings.max_embedding_inputs
        if isinstance(texts, list) and len(texts) > most and not isinstance(texts[0], int):
            raise BadRequest(f"'input' has {len(texts)} texts; {most} is the most.", param="input")

    def prompt_texts(self, body: Json) -> Iterator[str]:
        yield from texts_in(body.get("input"))
        yield from texts_in(body.get("messages"))

    def usage(self, answer: Json) -> Usage | None:
        usage = answer.get("usage")
        return Usage(count_of(usage.get("prompt_tokens")), 0) if isinstance(usage, dict) else None


EMBEDDINGS = Embeddings()
