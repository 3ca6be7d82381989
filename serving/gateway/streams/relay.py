"""The streaming path: the engine's events in, cleaned events out, as few bytes touched as can be.

An event whose text the guard releases unchanged is sent on as the bytes that came. The guard holds back what could
still become a match, so an event waits until its whole text is clear; when a match spans events, the first of them
carries the replacement and the others are dropped. The concatenated text of a channel is exactly what cleaning the
whole of it would give, for every way the engine or the network cut it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from serving.gateway.context import RequestContext
from serving.gateway.errors import BadRequest
from serving.gateway.streams.alike import Alike, Run
from serving.gateway.streams.channel import ChannelRelay
from serving.gateway.streams.chunks import (
    ABORTED,
    UNREADABLE,
    Answer,
    Channel,
    Choice,
    decode_any,
    decode_event,
    drop_token_details,
    encode,
    require_utf8,
    set_text,
    texts_of,
)
from serving.gateway.streams.sse import DONE, EventSplitter, EventTooLong, event_data
from serving.gateway.streams.tokens import TokenTap
from serving.guard import Answers, GuardReport

# Enough of an answer's beginning to tell whether it is a refusal.
ANSWER_START_CHARS = 300
# An engine whose events never repeat is not studied for ever.
_MOST_LESSONS = 8

# What an engine's bytes can raise: no end of an event, or tokens that are no numbers.
_GARBAGE = (ValueError, OverflowError)
_NO_ANSWER = "The engine sent an event that is no answer."


class StreamBroken(Exception):
    """The engine reported an error inside its stream, or ended it before the answer was complete.

    `released` holds the events that came before, which may still be sent.
    """

    released = b""


class StreamRelay:
    """One streamed answer. Feed it the engine's bytes, send on the bytes that it returns."""

    def __init__(self, context: RequestContext, guard: Answers, tap: TokenTap | None = None) -> None:
        self._context = context
        self._guard = guard
        self.tap = tap
        self._splitter = EventSplitter()
        self._channels: dict[int, dict[Channel, ChannelRelay]] = {}
        self._reports: list[GuardReport] = []
        self._unfinished = context.choices
        self._closing: list[bytes] = []
        self._unsent = b""  # came with what ends the answer
        self._alike: Alike | None = None
        self._lessons = _MOST_LESSONS
        self.done = False
        self.num_text_events = 0

    def feed(self, data: bytes) -> bytes:
        """Events that may be sent now, as bytes. The closing ones are kept for `close`.

        Raises:
            BadRequest: the answer holds what may not leave.
            StreamBroken: the engine reported an error, or its bytes are no event stream.
        """
        out: list[bytes] = []
        try:
            self._take_all(self._splitter.feed(data), out)
        except (StreamBroken, *_GARBAGE) as error:
            raise _broken(error, out) from None
        released = _join(out)
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
        out: list[bytes] = []
        try:
            for event in self._splitter.finish():
                self._take(event, out)
            if not self.complete:
                raise StreamBroken("The engine ended the stream before the answer was complete.")
        except (StreamBroken, *_GARBAGE) as error:
            raise _broken(error, out) from None
        self._closing = [*out, *self._closing]

    @property
    def complete(self) -> bool:
        """Whether every choice has come to its end, or the engine has said its last word."""
        return self.done or self._unfinished <= 0

    def cut(self) -> None:
        """The engine's bytes ended early; those of another engine follow. A part of an event is forgotten."""
        self._splitter = EventSplitter()
        self._alike, self._lessons = None, _MOST_LESSONS
        if self.tap is not None:
            self.tap.cut()

    def end(self, usage: bytes = b"") -> None:
        """The answer is complete although no engine said so; `usage` is the event that is missing."""
        for index in list(self._channels):
            self._finish_choice(index, self._closing)
        if usage:
            self._closing.append(usage)

    @property
    def closing(self) -> bytes:
        """The closing events but `[DONE]`, to be read."""
        return _join(self._closing)

    def close(self, comments: Sequence[bytes] = ()) -> bytes:
        """The closing events, from the last finish reason to `[DONE]`: sent once the record is durable."""
        return _join([*self._closing, *comments, DONE])

    def flush(self) -> bytes:
        """What is still held, cleaned: for a stream that breaks off."""
        rest: list[bytes] = []
        for index in list(self._channels):
            self._finish_choice(index, rest)
        return self._unsent + _join(rest)

    def reports(self) -> list[GuardReport]:
        """What the guard did, a report for each text channel."""
        return self._reports

    def _take_all(self, events: list[bytes], out: list[bytes]) -> None:
        """A single event is parsed; where several have come at once, those that are alike are read as one."""
        position, last = 0, len(events) - 1
        while position <= last:
            alike = self._alike
            if alike is not None and position < last and (run := alike.run(events, position)).events:
                self._take_run(alike, run, out)
                position += len(run.events)
            else:
                self._take(events[position], out, learns=position < last)
                position += 1

    def _take_run(self, alike: Alike, run: Run, out: list[bytes]) -> None:
        """Events in a row that bring one text each to the same channel."""
        self._lessons = _MOST_LESSONS
        if self.tap is not None:
            self.tap.note_plain(alike.index, run.tokens, run.texts)
        text = "".join(run.texts)
        self.num_text_events += len(run.events)
        note_text(self._context, alike.channel, text)
        self._channels[alike.index][alike.channel].feed_all(run.events, run.texts, text, out)

    def _take(self, event: bytes, out: list[bytes], *, learns: bool = False) -> None:
        if self._unfinished <= 0:
            out = self._closing
        came = event
        if self.tap is not None:
            event = self.tap.take(event)
        data = event_data(event)
        if data is None:
            out.append(event)
            return
        if data == b"[DONE]":
            self.done = True
            for index in list(self._channels):
                self._finish_choice(index, self._closing)
            return
        answer = self._decode(data)
        if len(answer.choices) == 1:
            self._take_choice(answer.choices[0], event, out)
            if learns and self._lessons > 0 and self._context.choices == 1:
                self._learn(answer.choices[0], came)
        elif answer.choices:
            self._take_apart(answer, data, out)
        elif answer.usage is None:
            out.append(event)
        elif self._context.wants_usage:
            self._closing.append(event)
        if answer.usage is not None:  # it counts the text beside it too
            self._context.counted_chars = self._context.answer_chars

    def _take_apart(self, answer: Answer, data: bytes, out: list[bytes]) -> None:
        """Each choice waits for its own text only, so each gets an event of its own."""
        whole = decode_any(data)
        for choice, raw in zip(answer.choices, whole["choices"], strict=True):
            self._take_choice(choice, b"data: " + encode({**whole, "choices": [raw]}), out)

    def _learn(self, choice: Choice, came: bytes) -> None:
        """The event that came was parsed: know the next ones like it by their bytes."""
        texts = texts_of(choice)
        if len(texts) == 1 and choice.finish_reason is None:
            self._lessons -= 1
            channel, text = texts[0]
            self._alike = Alike.of(came, choice.index, channel, text, self.tap) or self._alike

    def _decode(self, data: bytes) -> Answer:
        try:
            require_utf8(data)
            answer = decode_event(data)
        except UNREADABLE:
            raise StreamBroken(_NO_ANSWER) from None
        if answer.error is not None:
            raise StreamBroken("The engine reported an error in the middle of the answer.")
        if answer.usage is not None:
            self._context.note_usage(answer.usage.prompt_tokens, answer.usage.completion_tokens)
        return answer

    def _take_choice(self, choice: Choice, event: bytes, out: list[bytes]) -> None:
        if choice.finish_reason == ABORTED:
            raise StreamBroken("The engine gave the answer up when it was stopped.")
        texts = texts_of(choice)
        tap = self.tap
        if tap is not None:
            tap.note(choice.index, texts, choice.finish_reason is not None)
        if len(texts) > 1 or (texts and choice.finish_reason is not None):
            event = self._split(choice.index, texts, event, out)
        elif texts:
            self._take_text(choice.index, texts[0], event, out)
            return
        if choice.finish_reason is None:
            if tap is None or not tap.is_filler(event):
                out.append(event)
            return
        self._finish_choice(choice.index, out)
        self._context.finish_reason = choice.finish_reason
        self._unfinished -= 1
        (out if self._unfinished > 0 else self._closing).append(event)

    def _split(self, index: int, texts: list[tuple[Channel, str]], event: bytes, out: list[bytes]) -> bytes:
        """Give every text an event of its own; returns the event that is left, without texts."""
        data = event_data(event) or b"{}"
        rest = decode_any(data)
        for position, (channel, text) in enumerate(texts):
            part = decode_any(data)
            choice = part["choices"][0]
            choice["finish_reason"] = None
            if len(texts) > 1 or position:
                drop_token_details(choice)
            for other, _ in texts:
                if other != channel:
                    set_text(choice, other, "")
            set_text(rest["choices"][0], channel, "")
            self._take_text(index, (channel, text), b"data: " + encode(part), out)
        return b"data: " + encode(rest)

    def _take_text(self, index: int, named: tuple[Channel, str], event: bytes, out: list[bytes]) -> None:
        channel, text = named
        channels = self._channels.get(index)
        if channels is None:
            channels = self._channels[index] = {}
        relay = channels.get(channel)
        if relay is None:
            passage = self._context.passage
            digest = passage.text(index, *channel) if passage is not None else None
            cleaner = self._guard.stream(json=channel[0] == "arguments")
            relay = channels[channel] = ChannelRelay(cleaner, index, channel, digest)
            self._reports.append(relay.report)
        self.num_text_events += 1
        note_text(self._context, channel, text)
        relay.feed(event, text, out)

    def _finish_choice(self, index: int, out: list[bytes]) -> None:
        self._alike = None
        for relay in self._channels.pop(index, {}).values():
            relay.finish(out)


def refuse_blocked(reports: Iterable[GuardReport]) -> None:
    """End an answer that holds a value which may not leave.

    Raises:
        BadRequest: `content_blocked`, naming the entity.
    """
    for report in reports:
        if (entity := report.blocked) is not None:
            raise BadRequest(f"The answer holds what may not be given out here ({entity}).", code="content_blocked")


def note_text(context: RequestContext, channel: Channel, text: str) -> None:
    """Keep an answer's length and its beginning, which drift detection needs; the text itself is not kept."""
    context.answer_chars += len(text)
    missing = ANSWER_START_CHARS - len(context.answer_start)
    if missing > 0 and channel[0] in ("content", "text"):
        context.answer_start += text[:missing]


def _broken(error: Exception, out: list[bytes]) -> StreamBroken:
    """The end of a stream whose last good events are `out`."""
    if not isinstance(error, StreamBroken):
        error = StreamBroken(str(error) if isinstance(error, EventTooLong) else _NO_ANSWER)
    error.released = _join(out)
    return error


def _join(events: list[bytes]) -> bytes:
    return b"\n\n".join(events) + b"\n\n" if events else b""
