"""Asks the real engine itself, as the gateway would, for answers with a mark."""

from __future__ import annotations

from typing import Any

import httpx

from serving.provenance import MarkKey

ENGINE_KEY = "the-key-of-the-engines-that-tests-ask-themselves"
AUTHORIZATION = {"authorization": f"Bearer {ENGINE_KEY}"}
QUESTION = "Write a long story about a lighthouse keeper."


class EngineClient:
    """Sends chats with one key; the default scheme where none is named."""

    def __init__(self, url: str, key: MarkKey, model: str | None = None) -> None:
        self.http = httpx.Client(base_url=url, headers=AUTHORIZATION, timeout=900)
        self.key = key
        self.model = model or self.http.get("/v1/models").json()["data"][0]["id"]

    def close(self) -> None:
        self.http.close()

    def post(self, scheme: str | None = "gumbel", **fields: Any) -> httpx.Response:
        body = {"model": self.model, "messages": [{"role": "user", "content": QUESTION}], "return_token_ids": True}
        mark = {"vllm_xargs": {"signet_mark": scheme, "signet_key": self.key.permit(scheme)}} if scheme else {}
        return self.http.post("/v1/chat/completions", json={**body, **mark, **fields})

    def choices(self, scheme: str | None = "gumbel", **fields: Any) -> list[dict[str, Any]]:
        response = self.post(scheme, **fields)
        assert response.status_code == 200, response.text
        choices: list[dict[str, Any]] = response.json()["choices"]
        return choices
