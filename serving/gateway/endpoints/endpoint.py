"""What differs between the paths of the API, in one class: each path is an instance with its own few methods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from serving.gateway.endpoints.texts import WrittenAnswer
from serving.gateway.errors import BadRequest, GatewayError
from serving.gateway.streams.chunks import encode

if TYPE_CHECKING:
    from serving.gateway.settings import GatewaySettings
    from serving.guard import EndpointName

Json = dict[str, Any]
Channel = tuple[str, int, int]
"""One text that comes in pieces: what kind (`text` is the answer proper), and which item and part of the answer."""

ALL = -1
"""In `Event.ends`: every item of the answer."""


@dataclass(frozen=True, slots=True)
class TextField:
    """Where a text stands in decoded JSON. `parsed`: it is JSON itself, and decoded already."""

    holder: Json
    key: str
    parsed: bool = False

    @property
    def is_answer(self) -> bool:
        """Whether it is a piece of the answer proper, and no reasoning, refusal or tool call."""
        return self.key == "text" and self.holder.get("type") in ("text", "output_text")


@dataclass(slots=True)
class Event:
    """What one event of a stream means."""

    channel: Channel | None = None
    """The event is a piece of this text, and `text` is the piece."""
    text: str = ""
    ends: int | None = None
    """The item whose texts are complete now; `ALL`; or None."""
    closing: bool = False
    """This event and those after it are released only once the request's record is durable."""
    last: bool = False
    """The answer is complete."""
    failed: bool = False
    """The engine gives up on this answer."""
    text_fields: list[TextField] = field(default_factory=list)
    """Whole texts that the event repeats."""
    whole: bool = True
    """The event's texts are whole; False: they may go on in the next event of its kind."""
    item: int = 0
    """The item that the event belongs to, where its texts may go on."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the engine counted; None: it does not say."""

    prompt: int | None
    completion: int | None


class Endpoint:
    """One endpoint. The defaults are those of an endpoint that answers in one piece and generates nothing."""

    path: ClassVar[str]
    target: ClassVar[bytes]
    """The engine's path."""
    name: ClassVar[EndpointName]
    """As keys, metrics, ledger and receipts call it."""
    has_choices: ClassVar[bool] = False
    """Answers are choices and streams are chunks of them, as of chat and completions: relayed and continued as such."""
    streams: ClassVar[bool] = False
    generates: ClassVar[bool] = False
    """Tokens are sampled, and the engine takes `vllm_xargs` here."""
    is_billed: ClassVar[bool] = False
    """A question costs its tokens; where nothing is generated, those of the prompt."""
    cleans_answer: ClassVar[bool] = False
    """The answer holds text."""
    numbers_events: ClassVar[bool] = False
    """Events of a stream are counted by their `sequence_number`."""
    conversation_field: ClassVar[str] = "messages"
    """The request's field with the turns of a conversation."""
    parameter_names: ClassVar[dict[str, str]] = {}
    """Chat parameters that are called otherwise here."""
    length_fields: ClassVar[tuple[str, ...]] = ()
    """The request's fields with the most tokens to generate: the first that is there counts, the last is set by us."""

    def __init_subclass__(cls) -> None:
        cls.target = cls.path.encode() if "path" in vars(cls) else b""

    def check(self, body: Json, settings: GatewaySettings) -> None:
        """Refuse what the gateway cannot carry out.

        Raises:
            BadRequest: naming the field.
        """

    def prompt_texts(self, body: Json) -> Iterator[str]:
        """The texts of the question."""
        yield from ()

    def prompt_chars(self, body: Json) -> int:
        """Characters of text in the question."""
        return sum(map(len, self.prompt_texts(body)))

    def set_messages(self, body: Json, messages: list[Json]) -> None:
        """Put these chat messages (roles system, user, assistant; contents text) before those of `body`.

        Raises:
            BadRequest: the endpoint takes no messages.
        """
        raise BadRequest(f"{self.path} takes no prompt templates.", param="model", code="prompt_not_supported")

    def usage(self, answer: Json) -> Usage | None:
        """What a whole answer, or an event of a stream, says about usage."""
        return None

    def finish_reason(self, answer: Json) -> str:
        """Why a whole answer, or the stream that this event is of, ended: `stop`, `length`, `tool_calls`, or ``."""
        return ""

    def text_fields(self, answer: Json) -> list[TextField]:
        """The texts of a whole answer."""
        return []

    def write_answer(self, written: WrittenAnswer) -> Json:
        """An answer in one piece that consists of texts of ours."""
        raise NotImplementedError

    def write_stream(self, written: WrittenAnswer) -> list[bytes]:
        """The same as a stream's events, without the blank lines after them."""
        raise NotImplementedError

    def replace_in_answer(self, body: bytes, written: WrittenAnswer) -> bytes:
        """The answer with other choices in place of some."""
        return encode(self.write_answer(written))

    def replace_in_stream(self, data: bytes, written: WrittenAnswer) -> list[bytes]:
        """The events of a whole stream, to its last one, with other choices in place of some."""
        return self.write_stream(written)

    def unfold(self, data: Json) -> list[Json]:
        """An event as the events that it stands for, so that each carries a piece of one text at the most."""
        return [data]

    def read_piece(self, data: bytes) -> tuple[Channel, str] | None:
        """A piece of the answer proper, if the event holds that and no other text; None: read it as any event."""
        return None

    def is_usual(self, data: Json) -> bool:
        """Whether an event with a channel holds no other text, without a closer look."""
        return False

    def read_event(self, data: Json) -> Event:
        """What an event of a stream means."""
        raise NotImplementedError

    def write_text(self, data: Json, text: str) -> None:
        """Put another piece of text into an event that has a channel, and drop what would spell out the old one."""
        raise NotImplementedError

    def error_body(self, error: GatewayError, request_id: str) -> bytes:
        """The error as this endpoint's clients expect it."""
        return error.body()

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """The same inside a stream that has begun."""
        return b"event: error\ndata: " + self.error_body(error, request_id) + b"\n\n"


def named_event(event: Json) -> bytes:
    """An event that is called by its type."""
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + encode(event)


def texts_in(value: Any) -> Iterator[str]:
    """The texts of a message's content: a string, or a list of parts (and parts within them)."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            if isinstance(part, str):
                yield part
            elif isinstance(part, dict):
                for key in ("text", "thinking", "arguments", "content", "output"):
                    yield from texts_in(part.get(key))


def count_of(value: Any) -> int | None:
    """A count of tokens; None where the engine has not said it."""
    return None if value is None else whole_number(value)


def whole_number(value: Any) -> int:
    """A count that an engine reported, 0 where it is none."""
    return value if type(value) is int and value >= 0 else 0
