"""Which chats are held out of training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from training.data.chats import Chat
from training.errors import DataError


def split_heldout(chats: Sequence[Chat], fraction: float) -> tuple[list[Chat], list[Chat]]:
    """Split into (train, held out) by each chat's own hash.

    A chat keeps its side when others are added or the file is reordered, and equal chats are never on both.
    """
    train: list[Chat] = []
    heldout: list[Chat] = []
    for chat in chats:
        (heldout if _position(chat) < fraction else train).append(chat)
    if not train or not heldout:
        side = "train on" if not train else "hold out"
        raise DataError(f"{chats[0].source.rpartition(':')[0]}: too few chats: none is left to {side}")
    return train, heldout


def check_disjoint(train: Sequence[Chat], heldout: Sequence[Chat]) -> None:
    """Raise DataError when a held-out chat is also trained on, as its perplexity would then say nothing."""
    seen = {_position(chat): chat for chat in train}
    for chat in heldout:
        twin = seen.get(_position(chat))
        if twin is not None:
            raise DataError(f"{chat.source}: is held out, but {twin.source} trains on the same chat")


def _position(chat: Chat) -> float:
    """Where in [0, 1) the chat's content falls."""
    # What is learned of a chat does not change which chat it is.
    content = chat.model_dump_json(exclude={"source": True, "messages": {"__all__": {"weight"}}}).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") / 2**64
