"""The streaming path: the engine's events in, cleaned events out, as few bytes touched as can be.

An event whose text the guard releases unchanged is sent on as the bytes that came. The guard holds back what could
still become a match, so an event waits until its whole text is clear; when a match spans events, the first of them
carries the replacement and the others are dropped. The concatenated text of a channel is exactly what cleaning the
whole of it would give, for every way the engine or the network cut it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.gateway.context import RequestContext
from serving.gateway.streams.broken import StreamBroken, refuse_blocked
from serving.gateway.streams.choice import ChoiceRelay
from serving.gateway.streams.chunks import (
    ABORTED,
    CONTENT,
    PLAIN_CHANNELS,
    UNREADABLE,
    Channel,
    Json,
    TokenDetails,
    Usage,
    UsualChoice,
    choice_number,
    choices_of,
    decode_any,
    decode_loose,
    decode_usual,
    encode,
    finish_reason_of,
    reports_error,
    texts_of,
)
from serving.gateway.streams.details import clean_prompt_details
from serving.gateway.streams.event_template import EventTemplate
from serving.gateway.streams.extras import ExtraTexts
from serving.gateway.streams.fast_path import FastPath
from serving.gateway.streams.numeric_template import NO_MATCHES, PROBE, NumericTemplate
from serving.gateway.streams.recording import record_counts, record_text
from serving.gateway.streams.texts import clean_keys, drop_opaque, is_identifier, texts_within
from serving.gateway.streams.token_reader import ranks_of, tell_text
from serving.gateway.streams.tokens import TokenTap
from serving.guard import Answers, GuardReport
from serving.http.sse import DONE, EventSplitter, EventTooLong, event_data, keep_alive

# An engine whose events never repeat is not studied for ever.
_MOST_LESSONS = 8

# What an engine's bytes can raise: no end of an event, or tokens that are no numbers.
_GARBAGE = (ValueError, OverflowError)
_NO_ANSWER = "The engine sent an event that is no answer."
_ABANDONED = "The engine gave the answer up when it was stopped."
_FAILED = "The engine reported an error in the middle of the answer."
# Fields that say of which answer an event is.
_NAMES = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
_PROMPT_DETAILS = ("prompt_logprobs", "prompt_token_ids")
# What is said of a choice's end besides its finish reason, and what an end says of its text.
_ENDS = ("stop_reason", "matched_stop")
_NOTHING: tuple[tuple[str, Any], ...] = (("text", ""), ("delta", {}), ("logprobs", None))
_DATA = b"data: "
_OBJECT = b"data: {"
_NOT_OPAQUE = frozenset({"usage"})


class StreamRelay:
    """One streamed answer. Feed it the engine's bytes, send on the bytes that it returns."""

    def __init__(self, context: RequestContext, guard: Answers, tap: TokenTap | None = None) -> None:
        self._context = context
        self._guard = guard
        self.tap = tap
        self._splitter = EventSplitter()
        self._choices: dict[int, ChoiceRelay] = {}
        self._reports: list[GuardReport] = []
        self._extras = ExtraTexts(guard, self._reports, _written)
        self._unfinished = context.question.choices
        self._tail: list[bytes] = []  # texts that came after the last finish reason, and the finish reasons
        self._closing: list[bytes] = []  # what follows them
        self._fast_path = FastPath(context.question.choices, self._choices)
        self._unsent = b""  # came with what ends the answer
        self._template: EventTemplate | None = None
        self._numeric_template: NumericTemplate | None = None
        """Of events that also tell their token."""
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
        self._tail += out
        self._finish_choices(self._tail)

    @property
    def complete(self) -> bool:
        """Whether every choice has come to its end, or the engine has said its last word."""
        return self.done or self._unfinished <= 0

    def cut(self) -> None:
        """The engine's bytes ended early; those of another engine follow. A part of an event is forgotten."""
        self._splitter = EventSplitter()
        self._template = self._numeric_template = None
        self._lessons = _MOST_LESSONS
        if self.tap is not None:
            self.tap.cut()

    def end(self, usage: bytes = b"") -> None:
        """The answer is complete although no engine said so; `usage` is the event that is missing."""
        self._finish_choices(self._tail)
        if usage:
            self._closing.append(usage)

    @property
    def closing(self) -> bytes:
        """The closing events but `[DONE]`, to be read."""
        return _join([*self._tail, *self._closing])

    def close(self, comments: Sequence[bytes] = ()) -> bytes:
        """The closing events, from the last finish reason to `[DONE]`: sent once the record is durable."""
        self._finish_choices(self._tail)
        return _join([*self._tail, *self._closing, *comments, DONE])

    def flush(self) -> bytes:
        """What is still held, cleaned: for a stream that breaks off."""
        rest: list[bytes] = []
        self._finish_choices(rest, breaks_off=True)
        return self._unsent + _join(rest)

    def reports(self) -> list[GuardReport]:
        """What the guard did, a report for each text channel."""
        return self._reports

    def _take_all(self, events: list[bytes], out: list[bytes]) -> None:
        """Events that are like an earlier one are not parsed; several of them in a row are read as one."""
        position, last = 0, len(events) - 1
        while position <= last:
            if position < last and (taken := self._take_run(events, position, out)):
                position += taken
                continue
            event = events[position]
            if not self._take_known(event, out):
                self._take(event, out)
            position += 1

    def _take_run(self, events: list[bytes], first: int, out: list[bytes]) -> int:
        """Take the events from the `first` on that bring one text each to the same channel; returns how many."""
        index, channel, run = 0, CONTENT, NO_MATCHES
        if self._template is not None:
            index, channel, run = self._template.index, self._template.channel, self._template.run(events, first)
        elif self._numeric_template is not None and self._choices[0].is_plain and self._unfinished > 0:
            run = self._numeric_template.run(events, first)
        if not run.events:
            return 0
        text, state = "".join(run.texts), self._choices[index]
        if self._template is None and not state.tell(text):
            return 0
        self._lessons = _MOST_LESSONS
        if self.tap is not None and (run.tokens or self._template is not None):
            self.tap.note_plain(index, run.tokens, run.texts)
        self.num_text_events += len(run.events)
        record_text(self._context, channel, text)
        state.feed_run(channel, text, run, out)
        return len(run.events)

    def _take_known(self, event: bytes, out: list[bytes]) -> bool:
        """Take an event that is like one that was parsed; False: it is to be parsed too."""
        index, channel = 0, CONTENT
        if self._template is not None and (matched := self._template.read(event)) is not None:
            index, channel = self._template.index, self._template.channel
            state = self._choices[index]
        elif self._numeric_template is not None and (matched := self._numeric_template.read(event)) is not None:
            state = self._choices[index]
            if self._unfinished <= 0 or not state.is_plain or not state.tell(matched.text):
                return False
        else:
            return False
        self._lessons = _MOST_LESSONS
        if self.tap is not None and matched.token is not None:
            self.tap.note_plain(index, [matched.token], [matched.text])
        self._note(channel, matched.text)
        state.feed_text(channel, matched.text, matched.event, out, matched.ranks)
        return True

    def _take(self, event: bytes, out: list[bytes]) -> None:
        if self._unfinished <= 0:
            out = self._tail
        if not event.startswith(_OBJECT) or b"\n" in event:
            data = (event_data(event) or b"").strip()
            if not data.startswith(b"{"):
                self._take_bare_line(event, data, out)
                return
            event = _DATA + data
        came = event
        if self.tap is not None:
            event = self.tap.take(event)
        data = event[len(_DATA) :]
        usual = self._fast_path.read(data)
        if usual is None:
            self._take_any_shape(data, out)
            return
        if not usual.choices:
            self._take_usage(usual.usage, event)
            return
        [choice] = usual.choices
        self._take_choice(choice, event, out)
        if self._lessons > 0 and self._context.question.choices == 1:
            self._learn(choice, came)

    def _take_bare_line(self, event: bytes, data: bytes, out: list[bytes]) -> None:
        """An event that holds no object: the end, a comment, nothing at all, or what no answer has."""
        if data == b"[DONE]":
            self.done = True
            self._finish_choices(self._tail)
            return
        if event.startswith(b"error:"):
            raise StreamBroken(_FAILED)
        if data:
            self._take_any_shape(data, out)
        else:
            out.append(keep_alive(event))

    def _learn(self, choice: UsualChoice, came: bytes) -> None:
        """The event that came was parsed: know the next ones like it by their bytes."""
        texts, state = texts_of(choice), self._choices.get(choice.index)
        if len(texts) != 1 or choice.finish_reason or state is None or not state.is_plain:
            return
        self._lessons -= 1
        channel, text = texts[0]
        if choice.logprobs is None:
            self._template = EventTemplate.of(came, choice.index, channel, text, self.tap) or self._template
        elif state.tells and choice.index == 0 and (self.tap is None or (self.tap.knows_prompts and self.tap.hides)):
            self._numeric_template = NumericTemplate.of(came, text, self._tells_probe) or self._numeric_template

    def _take_choice(self, choice: UsualChoice, event: bytes, out: list[bytes]) -> None:
        tap, index = self.tap, choice.index
        texts, finish = texts_of(choice), choice.finish_reason
        if finish == ABORTED:
            raise StreamBroken(_ABANDONED)
        state = self._choices.get(index) or self._open_choice(index)
        if len(texts) > 1 or (finish and not self._is_plain_end(finish, texts)):
            self._take_any_shape(event[len(_DATA) :], out)
            return
        ranks: Sequence[str] = ()
        if choice.logprobs is not None or (texts and state.tells):
            if not self._tells_text(state, choice, texts):
                self._take_any_shape(event[len(_DATA) :], out)
                return
            ranks = ranks_of(_tokens(choice))
        event, end = _split(event) if texts and finish else (event, event)
        if tap is not None:
            tap.note(index, texts, bool(finish))
        if state.closed:
            return
        if texts:
            [(channel, text)] = texts
            self._note(channel, text)
            state.feed_text(channel, text, event, out, ranks)
        if finish:
            self._note_end(state, finish)
            state.end(end)
            self._close_early(state, out)
        elif not texts and (tap is None or not tap.is_filler(event)):
            out.append(event)

    def _is_plain_end(self, finish: str, texts: list[tuple[Channel, str]]) -> bool:
        return is_identifier("finish_reason", finish) and (not texts or texts[0][0] in PLAIN_CHANNELS)

    def _tells_text(self, state: ChoiceRelay, choice: UsualChoice, texts: list[tuple[Channel, str]]) -> bool:
        """Whether an event's details spell its text, so that both may go as they came once the text is clear."""
        tokens = _tokens(choice)
        if not tokens or not texts or texts[0][0] != CONTENT or not tell_text(tokens, texts[0][1]):
            return False
        self._template = None
        return state.tell(texts[0][1])

    def _tells_probe(self, event: bytes) -> bool:
        """Whether an event has `PROBE` for its text and details that spell it."""
        try:
            [choice] = decode_usual(event[len(_DATA) :]).choices
        except UNREADABLE:
            return False
        tokens = _tokens(choice)
        is_piece = texts_of(choice) == [(CONTENT, PROBE)] and not choice.finish_reason and choice.index == 0
        return is_piece and bool(tokens) and tell_text(tokens, PROBE) and not ranks_of(tokens)

    def _take_usage(self, usage: Usage | None, event: bytes) -> None:
        """An event that only brings what the engine counted."""
        answer = self._context.answer
        assert usage is not None
        answer.note_usage(usage.prompt_tokens, usage.completion_tokens)
        answer.counted_chars = answer.chars  # it counts the text beside it too
        if self._context.question.wants_usage:
            self._closing.append(event)

    def _take_any_shape(self, data: bytes, out: list[bytes]) -> None:
        """An event of any other shape: all of it is read. What is no object is no part of an answer."""
        try:
            event, _ = decode_loose(data)
            if isinstance(event, dict):
                self._take_event(event, out)
        except UNREADABLE:
            raise StreamBroken(_NO_ANSWER) from None

    def _take_event(self, event: Json, out: list[bytes]) -> None:
        if reports_error(event):
            raise StreamBroken(_FAILED)
        usage = event.get("usage")
        choices = choices_of(event)
        record_counts(self._context, usage)
        frame = {n: event[n] for n in _NAMES if n in event and _is_name(n, event[n])}
        odd = {n: value for n, value in event.items() if n not in frame and n != "choices" and value is not None}
        prompt = self._take_prompt(odd)
        drop_opaque(odd, _NOT_OPAQUE)
        odd = {name: value for name, value in odd.items() if value is not None} | prompt
        if not choices:
            self._take_bare(frame, odd, out)
        for position, choice in enumerate(choices):
            index = choice_number(choice, position)
            finish, ids = finish_reason_of(choice), choice.get("token_ids")
            if finish == ABORTED:
                raise StreamBroken(_ABANDONED)
            choice |= self._take_prompt(choice)
            state = self._choices.get(index) or self._open_choice(index)
            if state.closed:
                continue
            self._template = None
            if finish:
                self._note_end(state, finish)
            texts = state.take(choice, frame, odd, out, filler=self.tap is not None and self.tap.hides)
            odd = {}
            for channel, text in texts:
                self._note(channel, text)
            if self.tap is not None:
                self.tap.note(index, texts, bool(finish), ids if isinstance(ids, list) else None)
            if finish:
                self._close_early(state, out)
        if isinstance(usage, dict):  # it counts the text beside it too
            self._context.answer.counted_chars = self._context.answer.chars

    def _open_choice(self, index: int) -> ChoiceRelay:
        choice = self._choices[index] = ChoiceRelay(self._context, index, self._guard, self._reports)
        return choice

    def _note(self, channel: Channel, text: str) -> None:
        self.num_text_events += 1
        record_text(self._context, channel, text)

    def _take_bare(self, frame: Json, odd: Json, out: list[bytes]) -> None:
        """An event without choices: the usage, or what only this engine knows."""
        if "usage" in odd and not self._context.question.wants_usage:
            del odd["usage"]
            if not odd:
                return
        event = {**frame, "choices": [], **odd}
        clean_keys(self._guard, odd)
        if texts := list(texts_within(event)):
            self._extras.feed(event, texts, out)
        else:
            (self._closing if "usage" in odd else out).append(_written(event))

    def _take_prompt(self, holder: Json) -> Json:
        """Take what is said of the question's tokens; returns what of it the client may see."""
        details = {name: holder.pop(name) for name in _PROMPT_DETAILS if name in holder}
        ids = details.get("prompt_token_ids")
        if self.tap is not None and isinstance(ids, list) and ids:
            self.tap.note_prompt(ids)
        return clean_prompt_details(self._context, self._guard, details)

    def _note_end(self, state: ChoiceRelay, finish: str) -> None:
        self._context.answer.finish_reason = finish if is_identifier("finish_reason", finish) else "stop"
        if not state.ended:
            self._unfinished -= 1

    def _close_early(self, state: ChoiceRelay, out: list[bytes]) -> None:
        """One of several choices has ended while others go on: its end is told now. The last one's waits."""
        if self._unfinished > 0:
            state.finish(out)

    def _finish_choices(self, out: list[bytes], *, breaks_off: bool = False) -> None:
        """Nothing follows of any choice; one that breaks off has no finish reason."""
        self._template = self._numeric_template = None
        for state in self._choices.values():
            if state.closed:
                continue
            if breaks_off:
                state.break_off()
            state.finish(out)
        self._extras.finish(out)
        self._choices.clear()


def _is_name(field: str, value: Any) -> bool:
    return is_identifier(field, value) if isinstance(value, str) else isinstance(value, int | None)


def _tokens(choice: UsualChoice) -> Sequence[TokenDetails]:
    return (choice.logprobs.content if choice.logprobs is not None else None) or ()


def _split(event: bytes) -> tuple[bytes, bytes]:
    """An event with a plain text and a finish reason as two: the reason waits until the record is durable."""
    data = decode_any(event[len(_DATA) :])
    [choice] = data["choices"]
    end = {**choice, **{name: empty for name, empty in _NOTHING if name in choice}}
    data["choices"] = [{**choice, "finish_reason": None, **{name: None for name in _ENDS if name in choice}}]
    return _written(data), _written({**data, "choices": [end]})


def _written(event: Json) -> bytes:
    return _DATA + encode(event)


def _broken(error: Exception, out: list[bytes]) -> StreamBroken:
    """The end of a stream whose last good events are `out`."""
    if not isinstance(error, StreamBroken):
        error = StreamBroken(str(error) if isinstance(error, EventTooLong) else _NO_ANSWER)
    error.released = _join(out)
    return error


def _join(events: list[bytes]) -> bytes:
    return b"\n\n".join(events) + b"\n\n" if events else b""
