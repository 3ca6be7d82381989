"""What routing knows of a prompt: a chain of hashes over its text, and whose conversation it is.

The hashes are made of this gateway's own blocks of text, in the way in which vLLM hashes blocks of tokens for its
prefix cache: each stands for its block and all before it. They need no tokenizer, and no call to an engine. All of
them are the same in every replica and worker of the gateway: CRC-32 of the text, mixed by CPython's hash of tuples
of numbers, which is not seeded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from serving.gateway.engines.seen import BLOCK_CHARS, SeenPrefixes
from serving.gateway.settings.routing import RoutingSettings

# A prompt is told apart by its first 128 KB.
MAX_BLOCKS = 128
# To read less again than this is not worth a detour.
MIN_CHARS = 512

_encode = msgspec.json.Encoder().encode


class Prompt:
    """The chained hashes of one prompt.

    `ends[i]` is the number of characters that `chain[: i + 1]` stands for. `root` stands for what many prompts share:
    tools and system prompt, or else the first block; `conversation` for all up to the end of the first user's
    message, so that it stays the same from turn to turn.
    """

    __slots__ = ("chain", "conversation", "ends", "root")

    def __init__(self, chain: list[int], ends: list[int], root: int, conversation: int) -> None:
        self.chain = chain
        self.ends = ends
        self.root = root
        self.conversation = conversation

    @property
    def chars(self) -> int:
        """Length of the text that the chain stands for."""
        return self.ends[-1]

    def chars_seen(self, seen: SeenPrefixes) -> int:
        """How much of it an engine has read before."""
        depth = seen.depth(self.chain)
        return self.ends[depth - 1] if depth else 0


class Affinity(NamedTuple):
    """Where a request would like to go: where its prompt, or its session, was before."""

    prompt: Prompt | None
    session: int | None


def read_affinity(
    headers: Mapping[bytes, bytes], body: Mapping[str, Any], settings: RoutingSettings, salt: str
) -> Affinity:
    """What the settings let count of a request's prompt and session; `salt` is that of the engines' prefix cache."""
    return Affinity(
        read_prompt(body, salt) if settings.prefix else None,
        session_key(headers, body) if settings.session_chars else None,
    )


def read_prompt(body: Mapping[str, Any], salt: str = "") -> Prompt | None:
    """The prompt of a request, None when it is too short to matter or has no text.

    Under another salt it is another prompt, as it is to an engine.
    """
    chain: list[int] = []
    ends: list[int] = []
    root = conversation = chars = 0
    last = crc32(salt.encode())
    for role, data in _texts(body):
        if role != "system" and chain and not root:
            root = last
        for start in range(0, len(data), BLOCK_CHARS):
            block = data[start : start + BLOCK_CHARS]
            last = hash((last, crc32(block)))
            chars += len(block)
            chain.append(last)
            ends.append(chars)
        if role == "user" and not conversation:
            conversation = last
        if len(chain) >= MAX_BLOCKS:
            break
    if chars < MIN_CHARS:
        return None
    return Prompt(chain[:MAX_BLOCKS], ends[:MAX_BLOCKS], root or chain[0], conversation or last)


def session_key(headers: Mapping[bytes, bytes], body: Mapping[str, Any]) -> int | None:
    """Whose requests belong together, as the client says: `X-Session-Id`, `prompt_cache_key` or `user`."""
    named = headers.get(b"x-session-id")
    if named:
        return crc32(named)
    for field in ("prompt_cache_key", "user"):
        value = body.get(field)
        if isinstance(value, str) and value:
            return crc32(value.encode("utf-8", "surrogatepass"))
    return None


def _texts(body: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Role and text of the parts of a prompt, in the order in which chat templates write them."""
    tools = body.get("tools")
    if tools:
        yield "system", _encode(tools)
    for field in ("instructions", "system"):
        if (value := body.get(field)) is not None:
            yield "system", _bytes(value)
    messages = body.get("messages")
    if isinstance(messages, list):
        for message in messages:
            if isinstance(message, dict):
                role = message.get("role")
                yield "system" if role == "developer" else str(role), _bytes(message.get("content"))
        return
    prompt = body.get("prompt", body.get("input"))
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str):
        # A batch: its prompts go to one engine, the first one decides which.
        prompt = prompt[0]
    yield "user", _bytes(prompt)


def _bytes(content: object) -> bytes:
    """Text as it is, anything else (parts with images, token ids) as JSON."""
    if isinstance(content, str):
        return content.encode("utf-8", "surrogatepass")
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        text = content[0].get("text")
        if isinstance(text, str):
            return text.encode("utf-8", "surrogatepass")
    return _encode(content) if content is not None else b""
