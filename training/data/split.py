"""Which chats, texts and pairs are held out of training."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

from training.data.chats import Chat
from training.errors import DataError


def split_heldout(chats: Sequence[Chat], fraction: float) -> tuple[list[Chat], list[Chat]]:
    """Split into (train, held out) by each chat's own hash.

    A chat keeps its side when others are added or the file is reordered, and equal chats are never on both.
    """
    return _split(chats, [_position(chat) for chat in chats], fraction, chats[0].source, "chat")


def check_disjoint(train: Sequence[Chat], heldout: Sequence[Chat]) -> None:
    """Raise DataError when a held-out chat is also trained on, as its perplexity would then say nothing."""
    seen = {_position(chat): chat for chat in train}
    for chat in heldout:
        twin = seen.get(_position(chat))
        if twin is not None:
            raise DataError(f"{chat.source}: is held out, but {twin.source} trains on the same chat")


class Grouped(Protocol):
    """An example that belongs with others."""

    @property
    def group(self) -> str: ...

    @property
    def source(self) -> str:
        """`file:line`."""
        ...


E = TypeVar("E")
G = TypeVar("G", bound=Grouped)


def split_by_group(examples: Sequence[G], fraction: float, salt: str = "") -> tuple[list[G], list[G]]:
    """Split into (kept, held out) by the hash of each example's group: a group keeps its side when the file grows."""
    places = [_in_unit(f"{salt}{example.group}".encode()) for example in examples]
    return _split(examples, places, fraction, examples[0].source, "text or group")


def _split(
    examples: Sequence[E], places: Sequence[float], fraction: float, source: str, what: str
) -> tuple[list[E], list[E]]:
    """By each example's place in [0, 1): (kept, held out), neither of them empty."""
    lowest, highest = min(places), max(places)
    if lowest == highest:
        raise DataError(
            f"{source.rpartition(':')[0]}: holds a single {what}: nothing is left to hold out, so name data.heldout"
        )
    # Of few examples, none or all may lie below the fraction: the nearest to it changes sides.
    limit = min(max(fraction, math.nextafter(lowest, 1)), highest)
    sides: tuple[list[E], list[E]] = ([], [])
    for example, place in zip(examples, places, strict=True):
        sides[place < limit].append(example)
    return sides


def check_groups_apart(train: Sequence[G], heldout: Sequence[G], what: str) -> None:
    """Raise DataError where a group (called `what`) is both learned from and measured on."""
    groups = {example.group: example for example in train}
    for example in heldout:
        twin = groups.get(example.group)
        if twin is not None:
            count = sum(chat.group in groups for chat in heldout)
            raise DataError(
                f"{example.source}: is held out, and {twin.source} trains on the same {what} "
                f"({count} of {len(heldout)}): remove it from one of the two"
            )


def _position(chat: Chat) -> float:
    """Where in [0, 1) the chat's content falls."""
    # What is learned of a chat does not change which chat it is.
    return _in_unit(chat.model_dump_json(exclude={"source": True, "messages": {"__all__": {"weight"}}}).encode())


def _in_unit(content: bytes) -> float:
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") / 2**64
