"""Connection strings and other addresses that carry a password: `postgres://user:password@host/database`."""

from __future__ import annotations

import re

from serving.guard.detector import Span
from serving.guard.detectors.growing import Run

_CREDENTIALS = re.compile(r"[^\s/@:\"'<>{}\\]{0,64}:[^\s/@\"'<>{}\\]{1,128}@")
_UNDECIDED = re.compile(r"[^\s/@:\"'<>{}\\]{0,64}(?::[^\s/@\"'<>{}\\]{0,128})?\Z")
_REST = Run(r"A-Za-z0-9_~/@$&+=%\[\]-", ".,:;?!#*")


class ConnectionStrings:
    """Everything after `scheme://` where a user and a password come first: hosts and options are told too otherwise."""

    entity = "CONNECTION_STRING"
    skips_plain_words = True

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        position = text.find("://", max(0, start - 3))
        while position >= 0:
            begin = position + 3
            if begin >= start and position > 0 and text[position - 1].isalnum():
                if not final and _UNDECIDED.match(text, begin) is not None:
                    # With the slashes, or the user's name would pass as an ordinary word.
                    return spans, max(start, position + 1)
                credentials = _CREDENTIALS.match(text, begin)
                if credentials is not None:
                    start, still_open = _REST(text, credentials.end(), final)
                    if still_open:
                        return [*spans, Span(begin, start, _REST)], start
                    spans.append(Span(begin, start))
            position = text.find("://", max(start - 3, position + 1))
        return spans, len(text)
