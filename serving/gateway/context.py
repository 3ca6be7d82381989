"""One request on its way through the pipeline."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from serving.gateway.records import AnswerRecord, Mark, Question

if TYPE_CHECKING:
    from serving.gateway.endpoints.endpoint import Endpoint
    from serving.gateway.errors import GatewayError
    from serving.guard import Answers, GuardReport
    from serving.identity import Lease, Principal


def new_request_id() -> str:
    """Begins with the time, so that the ledger's index of these ids grows at its end."""
    if not _random:
        # One system call for many: asking the kernel for 6 bytes costs more than a regular expression.
        drawn = os.urandom(6 * 512).hex()
        _random.extend(drawn[start : start + 12] for start in range(0, len(drawn), 12))
    return f"req_{int(time.time() * 1000):012x}{_random.pop()}"


_random: list[str] = []
# A forked worker must not draw what its siblings draw.
os.register_at_fork(after_in_child=_random.clear)


@dataclass(slots=True)
class RequestContext:
    """One request: how it came, whose it is, and three records that the steps of the pipeline fill in.

    Times: `created_at` is Unix seconds, `started` is `time.perf_counter` seconds.
    """

    endpoint: Endpoint
    headers: dict[bytes, bytes]
    raw_body: bytes
    request_id: str = field(default_factory=new_request_id)
    created_at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)

    question: Question = field(default_factory=Question)
    mark: Mark = field(default_factory=Mark)
    answer: AnswerRecord = field(default_factory=AnswerRecord)

    principal: Principal | None = None
    lease: Lease | None = None
    policy_digest: str = ""
    input_report: GuardReport | None = None
    answer_guard: Answers | None = None
    """What cleans the answer. It may know values of the question."""

    @property
    def tenant(self) -> str:
        """Whose request it is, once that is known."""
        assert self.principal is not None
        return self.principal.tenant

    def error_body(self, error: GatewayError) -> bytes:
        """The error in the shape that the endpoint's clients expect."""
        return self.endpoint.error_body(error, self.request_id)

    def error_event(self, error: GatewayError) -> bytes:
        """The same inside a stream that has begun."""
        return self.endpoint.error_event(error, self.request_id)
