"""`/tokenize` and `/detokenize`, vLLM's: what the model would be asked, counted. Nothing is generated."""

from __future__ import annotations

from collections.abc import Iterator

from serving.gateway.endpoints.endpoint import Endpoint, Json, TextField, texts_in


class Tokenize(Endpoint):
    """The question is cleaned as a chat's or completion's would be, so the count is that of what would be asked."""

    path = "/tokenize"
    name = "tokenize"

    def prompt_texts(self, body: Json) -> Iterator[str]:
        yield from texts_in(body.get("prompt"))
        yield from texts_in(body.get("messages"))


class Detokenize(Endpoint):
    """Ids in, text out: cleaned as every text that leaves."""

    path = "/detokenize"
    name = "tokenize"
    cleans_answer = True

    def text_fields(self, answer: Json) -> list[TextField]:
        return [TextField(answer, "prompt")] if isinstance(answer.get("prompt"), str) else []


TOKENIZE = Tokenize()
DETOKENIZE = Detokenize()
