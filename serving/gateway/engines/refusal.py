"""What an engine's status means when it is not 200: whose fault it is, and when it may be asked again."""

from __future__ import annotations

import time
from dataclasses import dataclass

from serving.http.heads import http_date

# RFC 9110: the request itself is at fault. All other refusals are of the engine, its address or our key.
_OF_THE_REQUEST = frozenset({400, 413, 422})
# The engine, or its path, does not have what is asked for: it is well, and another may have it.
_NOT_HERE = frozenset({404, 405, 501})
_OVERLOADED = frozenset({429, 503, 529})
# A date far away, or a clock that is wrong, must not cost an engine for ever.
MOST_REST_S = 600.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is none. `rest_s`: seconds for which the engine asks to be left alone."""

    status: int
    rest_s: float = 0.0

    @property
    def is_clients_fault(self) -> bool:
        """Every engine would refuse it."""
        return self.status in _OF_THE_REQUEST

    @property
    def is_engines_failure(self) -> bool:
        """It counts against the engine."""
        return not self.is_clients_fault and self.status not in _NOT_HERE

    @property
    def is_overload(self) -> bool:
        """The engine did no work for it: another may be asked without making a bad day worse."""
        return self.status == 429 or (self.status in _OVERLOADED and self.rest_s > 0)

    @property
    def costs_work(self) -> bool:
        """The engine may have worked for it, and the next one will again."""
        return (self.status == 408 or self.status >= 500) and self.status != 501 and not self.is_overload


def read_refusal(status: int, retry_after: bytes) -> Refusal:
    """`retry_after`: the header's value, seconds or an HTTP date (RFC 9110, section 10.2.3), b"" without."""
    return Refusal(status, _seconds(retry_after) if status in _OVERLOADED else 0.0)


def _seconds(value: bytes) -> float:
    text = value.decode("latin-1").strip()
    try:
        seconds = float(text)
    except ValueError:
        moment = http_date(text)
        seconds = 0.0 if moment is None else moment - time.time()
    # Not a number fails both comparisons.
    return min(seconds, MOST_REST_S) if seconds > 0 else 0.0
