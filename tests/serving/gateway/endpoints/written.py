"""An answer of the gateway's own, as endpoints are given it to write."""

from __future__ import annotations

from typing import Any

import msgspec

from serving.gateway.endpoints.texts import FILTERED, Written, WrittenAnswer
from serving.http.sse import EventSplitter, event_data

REASON = "That is not answered here."


def refusal(*choices: int, **more: Any) -> WrittenAnswer:
    """The policy's reason in place of these choices; of the first one where none is named."""
    return written(dict.fromkeys(choices or (0,), Written(REASON, FILTERED)), **more)


def written(choices: dict[int, Written], wants_usage: bool = False) -> WrittenAnswer:
    return WrittenAnswer(choices, "0199", 1_700_000_000, "m", 12, 3, wants_usage)


def data_of(events: list[bytes]) -> list[dict[str, Any]]:
    """What events carry, but for `[DONE]`."""
    read = [event_data(event) for event in EventSplitter().feed(b"".join(event + b"\n\n" for event in events))]
    return [msgspec.json.decode(data) for data in read if data is not None and data != b"[DONE]"]
