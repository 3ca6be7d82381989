"""The request that `signet serve` gives to paste, and what makes the first answer as quick as later ones."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

from serving.engine.address import Address
from serving.engine.resolve import ModelSource, json_file

# The second sentence is what the default model needs to be right and brief: the bare question it now and then answers
# in broken French. It is no system message, since some models' templates refuse those.
FIRST_REQUEST: dict[str, Any] = {
    "messages": [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}],
    "max_tokens": 64,
}

# For a model that has read texts and no chats.
FIRST_TEXT: dict[str, Any] = {"prompt": "Once upon a time", "max_tokens": 64}

# vLLM compiles its sampling (`torch.compile`) when first a request samples, once for one sequence and once for several,
# and `/health` does not wait for it. Cold, that is seconds.
NUM_SEQUENCES = (1, 2)
TIMEOUT_SECONDS = 60.0


def first_request(folder: Path) -> tuple[str, dict[str, Any]]:
    """Path and body of a request that the model in this folder can answer: a chat, where it has a template for one."""
    config = json_file(folder / "tokenizer_config.json")
    has_template = not config or bool(config.get("chat_template")) or any(folder.glob("*.jinja"))
    return ("/v1/chat/completions", FIRST_REQUEST) if has_template else ("/v1/completions", FIRST_TEXT)


def warm_up(address: Address, source: ModelSource, key: str) -> None:
    """Have the engine write a few tokens, as its first users will ask it to: sampled, and with top-p.

    What goes wrong is left for users' requests to say. (A model for embeddings writes no text.)
    """
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    path, body = first_request(source.path)
    asked = {"model": source.served_name, **body, "max_tokens": 2, "temperature": 1.0, "top_p": 0.9}
    connection = http.client.HTTPConnection(address.reachable_host, address.port, timeout=TIMEOUT_SECONDS)
    try:
        for num_sequences in NUM_SEQUENCES:
            connection.request("POST", path, json.dumps(asked | {"n": num_sequences}), headers)
            response = connection.getresponse()
            response.read()
            if response.status != http.client.OK:
                return
    except (OSError, http.client.HTTPException):
        return
    finally:
        connection.close()
