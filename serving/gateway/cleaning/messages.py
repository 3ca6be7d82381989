"""What a gateway and its cleaning processes send each other: MessagePack, with its length before it."""

from __future__ import annotations

from typing import Any

import msgspec

LENGTH_BYTES = 4


class Setup(msgspec.Struct):
    """The first thing that a process gets."""

    settings: str
    """Of the guard, as JSON."""
    control_tokens: list[str]
    secret: bytes
    cpu_budget_s: float


class Job(msgspec.Struct):
    """A request to clean."""

    tenant: str
    endpoint: str
    body: bytes
    """JSON."""


class Cleaned(msgspec.Struct, tag=True):
    """The request, clean."""

    body: bytes
    counts: list[tuple[str, str, int]]
    remembered: dict[str, Any] | None
    """What its answer needs of it."""


class Refused(msgspec.Struct, tag=True):
    """The guard refuses the request."""

    code: str
    message: str
    param: str | None
    counts: list[tuple[str, str, int]]


class TooCostly(msgspec.Struct, tag=True):
    """It could not be cleaned within the budget."""


Reply = Cleaned | Refused | TooCostly

encode = msgspec.msgpack.Encoder().encode
decode_setup = msgspec.msgpack.Decoder(Setup).decode
decode_job = msgspec.msgpack.Decoder(Job).decode
decode_reply: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Cleaned | Refused | TooCostly)


def frame(message: msgspec.Struct) -> bytes:
    """A message as it is sent."""
    data = encode(message)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data
