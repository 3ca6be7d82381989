"""What is known of one request: what was asked, how its answer is marked, and what came of it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

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


class Listener(Protocol):
    """Told one text of an answer as it is released, piece by piece."""

    def add(self, text: str) -> None: ...


class HeardText(NamedTuple):
    """One text of an answer, put together; `part` tells it from others of its kind."""

    choice: int
    kind: str
    part: Hashable
    text: str


class HeardTexts:
    """The texts of an answer as they are released, for a policy that reads them whole."""

    def __init__(self) -> None:
        self._pieces: dict[tuple[int, str, Hashable], list[str]] = {}
        self.num_chars = 0

    def add(self, choice: int, kind: str, part: Hashable, text: str) -> None:
        """More of one text has been released."""
        self._pieces.setdefault((choice, kind, part), []).append(text)
        self.num_chars += len(text)

    def all(self) -> list[HeardText]:
        """Every text, in the order in which they began."""
        return [HeardText(*key, "".join(pieces)) for key, pieces in self._pieces.items()]


class _Hearing:
    """Adds one text's pieces to those that are heard, and to its digest."""

    __slots__ = ("_digest", "_heard", "_key")

    def __init__(self, heard: HeardTexts, key: tuple[int, str, Hashable], digest: Listener | None) -> None:
        self._heard = heard
        self._key = key
        self._digest = digest

    def add(self, text: str) -> None:
        self._heard.add(*self._key, text)
        if self._digest is not None:
            self._digest.add(text)


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
    heard: HeardTexts | None = None
    """Its texts; None: nobody reads them."""
    earlier_manifests: list[str] = field(default_factory=list)
    receipt: RecordedReceipt | None = None
    """To be shown only once it is on record."""
    delivers_receipt: bool = False
    """The receipt comes with the answer."""

    def listener(self, choice: int, kind: str, part: Hashable = 0, *, is_signed: bool = True) -> Listener | None:
        """Who is to be told of a text as it is released; None: nobody. `is_signed`: its digest is in the receipt."""
        digest: Listener | None = None
        if is_signed and self.digests is not None:
            digest = self.digests.text(choice, kind, part if type(part) is int else 0)
        return digest if self.heard is None else _Hearing(self.heard, (choice, kind, part), digest)

    def tell(self, text: str, choice: int, kind: str, part: Hashable = 0, *, is_signed: bool = True) -> None:
        """All of a text is released."""
        if self.heard is None and (self.digests is None or not is_signed):
            return
        listener = self.listener(choice, kind, part, is_signed=is_signed)
        if listener is not None:
            listener.add(text)

    def digest_anew(self) -> None:
        """What was digested of the answer is not released: only the question's digest stays."""
        if self.digests is not None:
            question, self.digests = self.digests.question, AnswerDigests({})
            self.digests.question = question

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
