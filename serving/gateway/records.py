"""What is known of one request: what was asked, how its answer is marked, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from serving.gateway.engines.engine import Engine
from serving.provenance.receipts import AnswerDigests, RecordedReceipt


class Media(NamedTuple):
    """Parts that are no text, and the characters in which they, or where they are, stand in the body."""

    parts: int
    chars: int


@dataclass(slots=True)
class Question:
    """What was asked, as far as it has been read, filled in and cleaned."""

    body: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    asked_model: str = ""
    """The name that the client used for it."""
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


@dataclass(slots=True)
class Mark:
    """Whether and how the answer is marked."""

    scheme: str = "off"
    key_id: str = ""
    permit: str = field(default="", repr=False)
    """What the engine is asked for the mark with."""
    note: str = ""
    """Why there is none, where one was wanted."""
    required: bool = False

    def leave_out(self, note: str) -> None:
        """The answer carries no mark, for this reason."""
        self.scheme, self.key_id, self.note = "off", "", note

    def header(self) -> bytes:
        """Value of `X-Signet-Mark`: `SCHEME;key=ID`, or `off`, with the reason when a mark was wanted."""
        if self.scheme != "off":
            return f"{self.scheme};key={self.key_id}".encode()
        return f"off;reason={self.note}".encode() if self.note else b"off"


@dataclass(slots=True)
class AnswerRecord:
    """What came of the request so far: by whom, how much, how it ended. `first_token_at` is `time.perf_counter`'s."""

    engine: Engine | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usage_reported: bool = False
    counted_chars: int = 0
    """Characters of the answer that had come when its usage was reported last."""
    chars: int = 0
    start: str = ""
    """Its first characters."""
    finish_reason: str = ""
    first_token_at: float = 0.0
    continued: int = 0
    """How often another engine went on with it."""
    guard_hits: int = 0
    cost_nanos: int = 0
    digests: AnswerDigests | None = None
    """Digests of question and answer; None: the answer gets no receipt."""
    earlier_manifests: list[str] = field(default_factory=list)
    receipt: RecordedReceipt | None = None
    """To be shown only once it is on record."""
    delivers_receipt: bool = False
    """The receipt comes with the answer."""

    def note_usage(self, prompt: int | None, completion: int | None) -> None:
        """Keep what an engine has counted, of the text that has come by now; None: it did not say.

        It need not be the last word: a count at the beginning of a stream is provisional.
        """
        if prompt:
            self.prompt_tokens = prompt
        if completion is not None:
            self.completion_tokens = completion
            self.usage_reported = True
            self.counted_chars = self.chars

    @property
    def is_counted(self) -> bool:
        """Whether an engine has counted all of the answer that has come; zero tokens for some text is no count."""
        if not self.usage_reported or not self.chars:
            return self.usage_reported
        return self.completion_tokens > 0 and self.counted_chars >= self.chars

    def forget(self) -> None:
        """What came of the answer was dropped before the client saw any: another engine begins anew."""
        self.prompt_tokens = self.completion_tokens = self.counted_chars = self.chars = 0
        self.usage_reported = False
        self.start = self.finish_reason = ""
        self.first_token_at = 0.0
        self.continued = 0
        self.earlier_manifests.clear()
