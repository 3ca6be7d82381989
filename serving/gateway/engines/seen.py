"""What an engine likely holds in its prefix cache: the prompts that this gateway has sent there, in bounded memory.

vLLM keys its cache by a chain of block hashes, so that a block stands for all that came before it, and evicts the
block used least recently, leaves first. The record does the same with the gateway's own blocks of text, and holds
about as many as the engine's cache has room for. It is a guess, and routing treats it as one.
"""

from __future__ import annotations

from collections.abc import Sequence

# Characters of text to a block. A block's hash costs about as much as three dictionary look-ups.
BLOCK_CHARS = 1024
# Until an engine tells the size of its cache: 8 MB of text.
DEFAULT_BLOCKS = 8192
MAX_BLOCKS = 65536
# OpenAI's own rule of thumb, wherever nobody has counted tokens yet.
CHARS_PER_TOKEN = 4


def blocks_for(cache_tokens: int | None) -> int:
    """How many blocks to remember of an engine whose KV cache has room for `cache_tokens`."""
    if cache_tokens is None:
        return DEFAULT_BLOCKS
    return max(16, min(cache_tokens * CHARS_PER_TOKEN // BLOCK_CHARS, MAX_BLOCKS))


class SeenPrefixes:
    """Chained block hashes, the least recently used forgotten first."""

    __slots__ = ("_blocks", "capacity")

    def __init__(self, capacity: int = DEFAULT_BLOCKS) -> None:
        self.capacity = capacity
        # Insertion order is the order of use.
        self._blocks: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._blocks)

    def depth(self, chain: Sequence[int]) -> int:
        """How many blocks of the chain, from its start, are remembered."""
        # Whoever remembers a block remembers its parents, so the depth can be found by bisection.
        low, high = 0, len(chain)
        blocks = self._blocks
        while low < high:
            middle = (low + high + 1) // 2
            if chain[middle - 1] in blocks:
                low = middle
            else:
                high = middle - 1
        return low

    def note(self, chain: Sequence[int]) -> None:
        """The engine reads this prompt now. Leaves are noted first, so that they are forgotten first."""
        blocks = self._blocks
        for block in reversed(chain):
            blocks.pop(block, None)
            blocks[block] = None
        while len(blocks) > self.capacity:
            del blocks[next(iter(blocks))]

    def clear(self) -> None:
        """The engine was started anew."""
        self._blocks.clear()
