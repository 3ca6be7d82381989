"""Asks an engine how likely its model finds a text."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from functools import partial
from typing import Any, NamedTuple

TIMEOUT_S = 120
# As many as vLLM gives unless it is started with another `--max-logprobs`.
LISTED = 20


class EngineLogprobs(NamedTuple):
    """Natural logarithms of probabilities, each given the tokens before; None for a token that has none before it."""

    logprobs: list[float | None]
    """Of the text's tokens."""
    top_logprobs: list[list[float] | None]
    """Of the likeliest tokens at each position."""


def prompt_logprobs(
    engine_url: str, token_ids: list[int], question: str | None = None, key: str | None = None
) -> EngineLogprobs:
    """What the engine's model thinks of a text, as an answer to the question of a user where one is given.

    `key` is sent to an engine that asks for one.

    Raises OSError where the engine does not answer, ValueError where it refuses.
    """
    if not token_ids:
        return EngineLogprobs([], [])
    base = engine_url.rstrip("/").removesuffix("/v1")
    ask = partial(_get, key)
    model = ask(f"{base}/v1/models")["data"][0]["id"]
    before: list[int] = []
    if question is not None:
        asked = {"model": model, "messages": [{"role": "user", "content": question}], "add_generation_prompt": True}
        before = ask(f"{base}/tokenize", asked).get("tokens")
        if not isinstance(before, list):
            raise ValueError("it does not answer '/tokenize'")
    prompt = [*before, *token_ids]
    body = {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0, "prompt_logprobs": LISTED}
    choice = ask(f"{base}/v1/completions", body)["choices"][0]
    entries = choice.get("prompt_logprobs")
    if not isinstance(entries, list) or len(entries) != len(prompt):
        raise ValueError("it is no vLLM engine, or does not answer 'prompt_logprobs'")
    entries = entries[len(before) :]
    return EngineLogprobs(
        [
            None if entry is None else float(entry[str(token)]["logprob"])
            for token, entry in zip(token_ids, entries, strict=True)
        ],
        [None if entry is None else _likeliest(entry) for entry in entries],
    )


def _likeliest(entry: dict[str, dict[str, Any]]) -> list[float]:
    """The best of a position; the text's own token stands beside them where it is none of them."""
    return sorted((float(one["logprob"]) for one in entry.values()), reverse=True)[:LISTED]


def _get(key: str | None, url: str, body: dict[str, Any] | None = None) -> Any:
    if not url.startswith(("http://", "https://")):
        raise ValueError("its address begins with neither http:// nor https://")
    data = None if body is None else json.dumps(body).encode()
    authorization = {"authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(url, data, {"content-type": "application/json", **authorization})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise ValueError(f"HTTP {error.code}") from None
