"""Why a stream ends before its answer does: the engine broke it off, or it holds what may not leave."""

from __future__ import annotations

from collections.abc import Iterable

from serving.gateway.errors import BadRequest
from serving.guard import GuardReport


class StreamBroken(Exception):
    """The engine reported an error inside its stream, or ended it before the answer was complete.

    `released` holds the events that came before, which may still be sent.
    """

    released = b""


def refuse_blocked(reports: Iterable[GuardReport]) -> None:
    """End an answer that holds a value which may not leave.

    Raises:
        BadRequest: `content_blocked`, naming the entity.
    """
    for report in reports:
        if (entity := report.blocked) is not None:
            raise BadRequest(f"The answer holds what may not be given out here ({entity}).", code="content_blocked")
