"""The formats of `/metrics`: Prometheus' text, or OpenMetrics, which alone has room for exemplars."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS_TYPE
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

# What the last line of OpenMetrics says: nothing was cut off.
EOF = b"# EOF\n"


class Format(NamedTuple):
    """How samples are written. `ending` follows the last of them."""

    name: str
    content_type: str
    write: Callable[[CollectorRegistry], bytes]
    ending: bytes


TEXT = Format("text", CONTENT_TYPE_LATEST, generate_latest, b"")
OPENMETRICS = Format("openmetrics", OPENMETRICS_TYPE, generate_openmetrics, EOF)


def format_for(accept: bytes) -> Format:
    """What a scraper asks for by its `Accept`. Prometheus names OpenMetrics first, and browsers do not name it."""
    return OPENMETRICS if b"application/openmetrics-text" in accept else TEXT
