"""Streams of the other endpoints: events with names, texts that come in pieces and again as a whole.

Built of the same parts as the relay of chats, with the same promise: the pieces of a text together are what cleaning
the whole of it gives, so a whole text that a later event repeats is the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from serving.gateway.context import RequestContext
from serving.gateway.endpoints.answer import CleanTexts, note_usage
from serving.gateway.endpoints.endpoint import ALL, Channel, Json
from serving.gateway.records import Listener
from serving.gateway.streams.broken import StreamBroken, refuse_blocked
from serving.gateway.streams.channel import ChannelRelay
from serving.gateway.streams.chunks import UNREADABLE, decode_any, decode_loose, encode, join_halves
from serving.gateway.streams.details import DetailGate
from serving.gateway.streams.duplicate_keys import repeats_keys
from serving.gateway.streams.extras import ExtraTexts
from serving.gateway.streams.numeric_template import PROBE, NumericTemplate
from serving.gateway.streams.recording import record_text
from serving.gateway.streams.texts import clean_keys, drop_opaque, is_identifier, stream_as, texts_alone, texts_within
from serving.gateway.streams.token_reader import Spelled
from serving.guard import Answers, GuardReport, TextStream
from serving.http.sse import DATA, EventSplitter, event_data, keep_alive

_DONE = b"data: [DONE]"
_FAILED = "The engine reported an error in the middle of the answer."
_NOT_OPAQUE = frozenset({"usage"})
_DETAILS = frozenset({"logprobs"})
_USUAL = re.compile(rb"(?:event: [\w.]{1,64}\n)?data: (\{[^\n]*)")
# An engine whose events never repeat is not studied for ever.
_MOST_LESSONS = 8
_NAME = re.compile(rb"event: ?([\w.-]{1,64})")


class EventRelay:
    """One streamed answer. Feed it the engine's bytes, send on the bytes that it returns."""

    def __init__(self, context: RequestContext, guard: Answers) -> None:
        self._context = context
        self._endpoint = context.endpoint
        self._guard = guard
        self._splitter = EventSplitter()
        self._channels: dict[Channel, _EventChannel] = {}
        self._reports: list[GuardReport] = []
        self._closing: list[bytes] = []
        self._unsent = b""  # came with what ends the answer
        self._holds = False
        self._ended: set[Channel] = set()
        self._gates: dict[Channel, DetailGate] = {}
        self._halves: dict[Channel, str] = {}
        self._extras = ExtraTexts(guard, self._reports, lambda data: with_data(*data))
        self._num_numbered = 0
        self._renumber = False
        self._template: tuple[NumericTemplate, Channel] | None = None
        self._lessons = _MOST_LESSONS
        self.done = False
        self.num_text_events = 0

    @property
    def num_pending(self) -> int:
        """Bytes of an event that has not ended."""
        return self._splitter.num_pending

    def feed(self, data: bytes) -> bytes:
        """Events that may be sent now, as bytes. The closing ones are kept for `close`.

        Raises:
            BadRequest: the answer holds what may not leave.
            StreamBroken: the engine reported an error.
            EventTooLong: the engine's bytes are no event stream.
        """
        out: list[bytes] = []
        events = self._splitter.feed(data)
        position = 0
        while position < len(events):
            taken = self._take_run(events, position, out)
            if not taken:
                self._take(events[position], out)
            position += taken or 1
        released = self._join(out)
        if self._guard.blocks:
            self._unsent = released
            refuse_blocked(self._reports)
            self._unsent = b""
        return released

    def finish(self) -> None:
        """The engine's bytes have ended.

        Raises:
            StreamBroken: before the answer was complete.
        """
        for event in self._splitter.finish():
            self._take(event, self._closing)
        if not self.done:
            raise StreamBroken("The engine ended the stream before the answer was complete.")

    @property
    def closing(self) -> bytes:
        """The closing events as they are, to be read."""
        return b"".join(event + b"\n\n" for event in self._closing)

    def close(self, comments: Sequence[bytes] = ()) -> bytes:
        """The closing events: sent once the record is durable. Comments come before the last one."""
        before, last = self._join(self._closing[:-1]), self._closing[-1:]
        return before + b"".join(comment + b"\n\n" for comment in comments) + self._join(last)

    def flush(self) -> bytes:
        """What is still held, cleaned: for a stream that breaks off."""
        out: list[bytes] = []
        self._end(ALL, out)
        return self._unsent + self._join(out)

    def reports(self) -> list[GuardReport]:
        """What the guard did, a report for each text; a text that is repeated counts once."""
        return self._reports

    def _take(self, event: bytes, out: list[bytes]) -> None:
        usual = _USUAL.fullmatch(event)
        if usual is not None and (piece := self._endpoint.read_piece(usual[1])) is not None:
            channel, text = piece
            if text and not self._halves and channel not in self._gates and not repeats_keys(usual[1]):
                if channel not in self._ended:
                    self._learn(channel, text, event)
                    self._pass(channel, text, event, out)
                return
        if usual is not None:
            data = usual[1]
        else:
            data = (event_data(event) or b"").strip()
            if event.startswith(b"error:"):
                raise StreamBroken(_FAILED)
            if not data or data == b"[DONE]":
                (self._closing if self._holds else out).append(_DONE if data else keep_alive(event))
                return
        try:
            decoded, is_standard = decode_loose(data)
            parts = self._endpoint.unfold(decoded) if isinstance(decoded, dict) else []
            if len(parts) == 1 and is_standard and usual is not None:
                self._take_part(decoded, event, out)
                return
            name = _NAME.search(event)
            named = b"event: " + name[1] + b"\n" if name is not None and len(parts) == 1 else b""
            for part in parts:
                self._take_part(part, named + b"data: " + encode(part) if named else named_event(part), out)
        except UNREADABLE:
            raise StreamBroken("The engine sent an event that is no JSON.") from None

    def _take_run(self, events: list[bytes], first: int, out: list[bytes]) -> int:
        """Take the events from the `first` on that are like one that was parsed, as one text; returns how many."""
        if self._template is None:
            return 0
        template, channel = self._template
        if self._halves or channel in self._gates or channel in self._ended:
            return 0
        run = template.run(events, first)
        if run.events:
            self._lessons = _MOST_LESSONS
            text = "".join(run.texts)
            self.num_text_events += len(run.events)
            record_text(self._context, (channel[0], channel[1]), text)
            (self._channels.get(channel) or self._open(channel)).feed_all(run.events, run.texts, text, out)
        return len(run.events)

    def _learn(self, channel: Channel, text: str, event: bytes) -> None:
        """The event was parsed, and repeats no key: know the next ones like it by their bytes."""
        if self._lessons <= 0:
            return
        self._lessons -= 1

        def holds(probe: bytes) -> bool:
            usual = _USUAL.fullmatch(probe)
            return usual is not None and self._endpoint.read_piece(usual[1]) == (channel, PROBE)

        if (template := NumericTemplate.of(event, text, holds)) is not None:
            self._template = template, channel

    def _take_part(self, data: Json, event: bytes, out: list[bytes]) -> None:
        read = self._endpoint.read_event(data)
        if read.failed:
            raise StreamBroken(_FAILED)
        if read.channel is not None:
            if read.channel not in self._ended:
                self._take_text(read.channel, read.text, data, event, out)
            return
        if read.ends is not None:
            self._end(read.ends, out)
        note_usage(self._context, data)
        self._context.answer.finish_reason = self._endpoint.finish_reason(data) or self._context.answer.finish_reason
        self._holds = self._holds or read.closing
        out = self._closing if self._holds else out
        if read.whole:
            cleaned = CleanTexts(self._guard, data, read.text_fields)
            self._reports += cleaned.reports
            out.append(with_data(event, data) if cleaned.changed else event)
        else:
            alone = texts_alone(data)
            if alone is None:
                drop_opaque(data, _NOT_OPAQUE)
                clean_keys(self._guard, data)
                alone = list(texts_within(data))
            kind = str(data.get("type")), read.item
            texts = [text._replace(path=(*kind, *text.path)) for text in alone]
            if texts:
                self._extras.feed((event, data), texts, out)
            else:
                out.append(event)
        self.done = self.done or read.last

    def _pass(self, channel: Channel, text: str, event: bytes, out: list[bytes]) -> None:
        """A piece of text goes on, as the event that came, once it is clear."""
        self.num_text_events += 1
        record_text(self._context, (channel[0], channel[1]), text)
        (self._channels.get(channel) or self._open(channel)).feed(event, text, out)

    def _open(self, channel: Channel) -> _EventChannel:
        kind, *part = channel
        listener = self._context.answer.listener(0, kind, tuple(part), is_signed=kind == "text")
        cleaner = stream_as(self._guard, channel[0])
        self._reports.append(cleaner.report)
        relay = self._channels[channel] = _EventChannel(cleaner, self._rewrite, listener)
        return relay

    def _take_text(self, channel: Channel, text: str, data: Json, event: bytes, out: list[bytes]) -> None:
        relay = self._channels.get(channel) or self._open(channel)
        whole, half = join_halves(self._halves.pop(channel, "") + text if self._halves else text)
        if half:
            self._halves[channel] = half
        spelled = self._take_details(channel, data, whole)
        shown, told = spelled.value if spelled is not None else [], data.get("logprobs") or []
        if self._drop_others(data) or whole != text or shown != told:
            self._endpoint.write_text(data, whole)
            if shown:
                data["logprobs"] = shown
            event = with_data(event, data)
        gate = self._gates.get(channel)
        if spelled is not None and gate is not None:
            gate.expect(event, spelled)
        if whole:
            self.num_text_events += 1
            record_text(self._context, (channel[0], channel[1]), whole)
        if gate is None:
            relay.feed(event, whole, out)
        else:
            own: list[bytes] = []
            relay.feed(event, whole, own)
            gate.pass_on(own, out)

    def _take_details(self, channel: Channel, data: Json, text: str) -> Spelled | None:
        """Read what an event says of its tokens. What cannot be lined up with the text is left out."""
        details = data.get("logprobs")
        if not details and channel not in self._gates:
            return None
        gate = self._gates.get(channel)
        if gate is None:
            gate = self._gates[channel] = DetailGate(self._guard, _without_details)
        spelled = gate.read(details) if details else None
        gate.note_text(text)
        return spelled if gate.readable else None

    def _drop_others(self, data: Json) -> bool:
        """Take out of a piece of text what else it says: nothing that clients know. Returns whether there was any."""
        if self._endpoint.is_usual(data):
            return False
        text = self._endpoint.read_event(data).text
        self._endpoint.write_text(data, "")
        others = list(texts_within(data))
        for other in others:
            other.holder[other.key] = ""
        opaque = drop_opaque(data, _DETAILS)
        self._endpoint.write_text(data, text)
        return bool(others) or opaque

    def _end(self, item: int, out: list[bytes]) -> None:
        ended = [channel for channel in self._channels if item in (ALL, channel[1])]
        self._ended.update(ended)
        for channel in ended:
            rest: list[bytes] = []
            self._channels.pop(channel).finish(rest)
            gate = self._gates.pop(channel, None)
            if gate is None:
                out += rest
            else:
                gate.pass_on(rest, out)
                gate.finish(out)
        self._extras.finish(out)

    def _rewrite(self, event: bytes, text: str) -> bytes:
        """The event with another text. From here on there may be fewer or more events than the engine counted."""
        self._renumber = True
        data = decode_any(event_data(event) or b"{}")
        self._endpoint.write_text(data, text)
        return with_data(event, data)

    def _join(self, events: list[bytes]) -> bytes:
        if self._endpoint.numbers_events and self._renumber:
            events = [self._numbered(event) for event in events]
        else:
            self._num_numbered += len(events)
        return b"".join(event + b"\n\n" for event in events)

    def _numbered(self, event: bytes) -> bytes:
        number = self._num_numbered
        self._num_numbered += 1
        data = decode_any(event_data(event) or b"{}")
        if "sequence_number" not in data:
            return event
        return with_data(event, {**data, "sequence_number": number})


class _EventChannel(ChannelRelay):
    """A text channel whose events are written by the endpoint."""

    def __init__(self, cleaner: TextStream, rewrite: Callable[[bytes, str], bytes], listener: Listener | None) -> None:
        super().__init__(cleaner, 0, ("text", 0), listener)
        self._rewrite_event = rewrite

    def _with_text(self, event: bytes, text: str) -> bytes:
        return self._rewrite_event(event, text)


def with_data(event: bytes, data: Json) -> bytes:
    """The event with other data; its name and its other lines stay."""
    kept = [line for line in event.split(b"\n") if not line.startswith(DATA)]
    return b"\n".join([*kept, b"data: " + encode(data)])


def _without_details(event: bytes) -> bytes:
    data = decode_any(event_data(event) or b"{}")
    return with_data(event, {**data, "logprobs": []})


def named_event(data: Json) -> bytes:
    """An event that is named by its `type`."""
    kind = data.get("type")
    name = b"event: " + kind.encode() + b"\n" if isinstance(kind, str) and is_identifier("type", kind) else b""
    return name + b"data: " + encode(data)
