"""One request on its way through the pipeline."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.gateway.endpoints.endpoint import Endpoint
    from serving.gateway.engines.engine import Engine
    from serving.gateway.errors import GatewayError
    from serving.gateway.steps.media import Media
    from serving.guard import Answers, GuardReport
    from serving.identity import Lease, Principal
    from serving.provenance.receipts import AnswerDigests, RecordedReceipt


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
    """What the steps of the pipeline have found out so far; each step fills in its own part.

    Times: `created_at` is Unix seconds, `started` and `first_token_at` are `time.perf_counter` seconds.
    """

    endpoint: Endpoint
    headers: dict[bytes, bytes]
    raw_body: bytes
    request_id: str = field(default_factory=new_request_id)
    created_at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)

    principal: Principal | None = None
    lease: Lease | None = None
    body: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    asked_model: str = ""
    priority: int = 0
    stream: bool = False
    choices: int = 1
    """Answers that come back: of each prompt `n`."""
    sequences: int = 1
    """Answers that the engine makes side by side, which is what limits count."""
    wants_usage: bool = False
    ignored_fields: tuple[str, ...] = ()
    """Fields of the request that no engine is sent."""
    own_salt: str = field(default="", repr=False)
    """The client's own salt for the engines' prefix cache."""
    cache_salt: str = field(default="", repr=False)
    """What engines are given in its place: others' prompts are not found in their cache."""
    binds_tools: bool = False
    """A tool that the client forces is to be bound to its schema."""
    media: Media | None = None
    """What of the question is no text; None: it was not looked through yet."""
    prompt_chars: int = 0
    policy_digest: str = ""
    input_report: GuardReport | None = None
    answers: Answers | None = None
    """What cleans the answer. It may know values of the question."""
    mark_scheme: str = "off"
    mark_key_id: str = ""
    mark_permit: str = field(default="", repr=False)
    """What the engine is asked for the mark with."""
    mark_note: str = ""
    mark_required: bool = False
    engine: Engine | None = None

    output_hits: int = 0
    continued: int = 0
    cost_nanos: int = 0
    first_token_at: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usage_reported: bool = False
    counted_chars: int = 0
    """Characters of the answer that had come when its usage was reported last."""
    answer_chars: int = 0
    answer_start: str = ""
    finish_reason: str = ""
    digests: AnswerDigests | None = None
    """Digests of question and answer; None: the answer gets no receipt."""
    earlier_manifests: list[str] = field(default_factory=list)
    receipt: RecordedReceipt | None = None
    """To be shown only once it is on record."""
    delivers_receipt: bool = False
    """The receipt comes with the answer."""

    @property
    def tenant(self) -> str:
        """Whose request it is, once that is known."""
        assert self.principal is not None
        return self.principal.tenant

    def note_usage(self, prompt: int | None, completion: int | None) -> None:
        """Keep what an engine has counted, of the text that has come by now; None: it did not say.

        It need not be the last word: a count at the beginning of a stream is provisional.
        """
        if prompt:
            self.prompt_tokens = prompt
        if completion is not None:
            self.completion_tokens = completion
            self.usage_reported = True
            self.counted_chars = self.answer_chars

    @property
    def is_counted(self) -> bool:
        """Whether an engine has counted all of the answer that has come; zero tokens for some text is no count."""
        if not self.usage_reported or not self.answer_chars:
            return self.usage_reported
        return self.completion_tokens > 0 and self.counted_chars >= self.answer_chars

    def forget_answer(self) -> None:
        """What came of the answer was dropped before the client saw any: another engine begins anew."""
        self.prompt_tokens = self.completion_tokens = self.counted_chars = self.answer_chars = 0
        self.usage_reported = False
        self.answer_start = self.finish_reason = ""
        self.first_token_at = 0.0
        self.continued = 0
        self.earlier_manifests.clear()

    def mark_header(self) -> bytes:
        """Value of `X-Signet-Mark`: `SCHEME;key=ID`, or `off`, with the reason when a mark was wanted."""
        if self.mark_scheme != "off":
            return f"{self.mark_scheme};key={self.mark_key_id}".encode()
        return f"off;reason={self.mark_note}".encode() if self.mark_note else b"off"

    def error_body(self, error: GatewayError) -> bytes:
        """The error in the shape that the endpoint's clients expect."""
        return self.endpoint.error_body(error, self.request_id)

    def error_event(self, error: GatewayError) -> bytes:
        """The same inside a stream that has begun."""
        return self.endpoint.error_event(error, self.request_id)
