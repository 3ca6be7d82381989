"""One choice of a streamed answer: its texts, each cleaned on its own, and the events that bring them.

An event of the usual shape brings one text, and waits as the bytes that came. Any other is taken apart, so that each
text waits for itself only: an event for each text, one for the beginning of each tool call, one for all the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from serving.gateway.context import RequestContext
from serving.gateway.streams.channel import ChannelRelay
from serving.gateway.streams.chunks import (
    CONTENT,
    MESSAGE_TEXTS,
    Channel,
    Json,
    encode,
    finish_reason_of,
    join_halves,
)
from serving.gateway.streams.details import DetailGate, details_in, joined_details, without_details
from serving.gateway.streams.duplicate_keys import Frame
from serving.gateway.streams.extras import ExtraTexts
from serving.gateway.streams.numeric_template import MatchedRun
from serving.gateway.streams.texts import (
    as_text,
    clean_keys,
    drop_opaque,
    is_identifier,
    plain_content,
    stream_as,
    texts_within,
)
from serving.gateway.streams.token_reader import Spelled
from serving.gateway.streams.tool_calls import ToolCalls
from serving.guard import Answers, GuardReport
from serving.guard.text.stream import MAX_HELD

_MAX_NAME = 4096
_FUNCTION_CALL = -1
"""The number of the one call of the old `function_call`."""
_NO_NEWS = frozenset({"index", "finish_reason", "logprobs", "token_ids", "text", "delta", "message"})
_PROMPTS = frozenset({"prompt_logprobs", "prompt_token_ids"})
_NOT_TOLD = object()
_EMPTY: tuple[Any, ...] = (None, "", [], {})


class ChoiceRelay:
    """Takes the pieces of one choice; gives the events that may be sent.

    Args:
        reports: gets what the guard did to each text.
    """

    def __init__(self, context: RequestContext, index: int, guard: Answers, reports: list[GuardReport]) -> None:
        body = context.question.body
        self.channels: dict[Channel, ChannelRelay] = {}
        self.calls = ToolCalls()
        self.ended = False
        self.closed = False
        """Whether its end has been told; what comes after that is no part of it."""
        self.frame: Frame | None = None
        """What the events of the usual shape have in common that repeat no key."""
        self._answer = context.answer
        self._index = index
        self._guard = guard
        self._reports = reports
        # Ids of what a client asked not to see spell it all the same.
        self._shows_ids = bool(body.get("return_token_ids")) and body.get("include_reasoning") is not False
        self._stops = bool(body.get("stop"))
        self._gate: DetailGate | None = None
        self._apart = False  # details say something else than the text; until then the gate holds alternatives only
        self._told = ""
        self._extras = ExtraTexts(guard, reports, _written)
        self._heads: dict[int, Json] = {}
        self._opened: set[int] = set()
        self._halves: dict[Channel, str] = {}
        self._frame: Json = {}
        self._key = "text" if context.endpoint.name == "completions" else "delta"
        self._stop_reason: Any = _NOT_TOLD
        self._end: Json | None = None
        self._end_event = b""

    @property
    def is_plain(self) -> bool:
        """Whether events of the usual shape may go straight to their channels."""
        return not self._apart and not self._heads and not self._halves

    @property
    def tells(self) -> bool:
        """Whether events have come that went to their channel with details, which spell their text."""
        return bool(self._told)

    def tell(self, text: str) -> bool:
        """Take note of such an event, which `feed_text` gets next; False: it has to be taken apart."""
        if self._apart or not self.channels.keys() <= {CONTENT}:
            return False
        self._told = (self._told + text)[-MAX_HELD:]
        return True

    def end(self, event: bytes) -> None:
        """An event of the usual shape says why the choice ended; it is sent after everything else."""
        if not self.ended:
            self.ended, self._end_event = True, event

    def break_off(self) -> None:
        """The stream ends in an error: the choice's end is not told."""
        self._end, self._end_event = None, b""

    def feed_text(self, channel: Channel, text: str, event: bytes, out: list[bytes], ranks: Sequence[str] = ()) -> None:
        """An event brings one text and no more, except what its alternatives of each rank spell."""
        relay = self.channels.get(channel)
        if relay is None:
            relay = self.channels[channel] = self._open(channel)
        if ranks and self._gate is not None and self._gate.read_words(event, ranks):
            relay.feed(event, text, out)
            if out and out[-1] is event:
                self._gate.hold(out.pop())
            return
        if ranks:
            self._read_ranks([event], [ranks])
        if self._gate is None:
            relay.feed(event, text, out)
        else:
            own: list[bytes] = []
            relay.feed(event, text, own)
            self._gate.pass_on(own, out)

    def feed_run(self, channel: Channel, text: str, run: MatchedRun, out: list[bytes]) -> None:
        """As `feed_text`, of several events in a row; `text` is all of theirs."""
        if run.ranks:
            self._read_ranks(run.events, run.ranks)
        relay = self.channels[channel]
        if self._gate is None:
            relay.feed_all(run.events, run.texts, text, out)
        else:
            own: list[bytes] = []
            relay.feed_all(run.events, run.texts, text, own)
            self._gate.pass_on(own, out)

    def _read_ranks(self, events: Sequence[bytes], ranks: Sequence[Sequence[str]]) -> None:
        if self._gate is None:
            self._gate = DetailGate(self._guard, without_details)
        self._gate.read_ranks(events, ranks)

    def take(
        self, choice: Json, frame: Json, odd: Json, out: list[bytes], *, filler: bool = False
    ) -> list[tuple[Channel, str]]:
        """Take a piece of any shape.

        Args:
            frame: what names the answer in each of its events.
            odd: what else the event holds besides choices.
            filler: the event is only there because tokens were asked for, should it say nothing.

        Returns:
            the texts that it brought.
        """
        self._frame = frame
        finish, details, ids = finish_reason_of(choice), choice.get("logprobs"), choice.pop("token_ids", None)
        part = self._part_of(choice)
        heads, texts = self._take_apart(choice, part)
        drop_opaque(choice, _PROMPTS)
        spelled = self._take_details(details, ids, texts)
        rest = {"index": self._index, self._key: part if part is not None else "", "finish_reason": None}
        more = {name: value for name, value in choice.items() if name not in _NO_NEWS and value is not None}
        if heads and not (texts or finish or part):
            self._open_heads(out, but=[number for number, _ in heads])
        else:
            self._open_heads(out)
        others = [(("other", 0), text.value) for text in texts_within(part)]
        says = part is not None and any(value not in _EMPTY for value in part.values())
        if finish and not self.ended:
            if says:
                self._pass(self._event(rest), out)
        elif says or more or odd or not (texts or heads or spelled or filler):
            self._pass(self._event({**rest, **more}, odd), out)
        for number, head in heads:
            self._add_head(number, head)
        for channel, text, message in texts:
            self._open_heads(out)
            event = self._event({**self._message(message), "logprobs": None, "finish_reason": None})
            if spelled is None or len(texts) > 1:
                self.feed_text(channel, text, _written(event), out)
            else:
                self.feed_text(channel, text, self._detailed(event, spelled), out)
                spelled = None
        if spelled is not None and self._gate is not None:
            event = self._event({**self._message({}), "logprobs": None, "finish_reason": None})
            self._gate.pass_on([self._detailed(event, spelled)], out)
        if finish and not self.ended:
            self.ended = True
            self._stop_reason = choice.get("stop_reason", _NOT_TOLD)
            reason = finish if is_identifier("finish_reason", finish) else "stop"
            self._end = self._event({**self._message({}), "logprobs": None, "finish_reason": reason, **more}, odd)
        own = [(channel, text) for channel, text, _ in texts]
        return [*own, *others, *((("name", number), _named(head)["name"]) for number, head in heads)]

    def finish(self, out: list[bytes]) -> None:
        """Nothing follows: add to `out` what is left, the event with the finish reason last."""
        self.closed = True
        self._open_heads(out)
        rest: list[bytes] = []
        for relay in self.channels.values():
            relay.finish(rest)
        extras: list[bytes] = []
        if self._end is not None:
            self._extras.feed(self._end, list(texts_within(self._end)), extras)
        self._extras.finish(extras)
        if self._gate is None:
            out += rest
        else:
            self._gate.pass_on(rest, out)
            self._gate.finish(out)
            changed = self._gate.changed or self._extras.changed or any(c.changed for c in self.channels.values())
            if not changed and not self._stopped_by_text():
                out += self._late_details(self._gate)
        out += extras
        if self._end_event:
            out.append(self._end_event)
        self._end, self._end_event = None, b""

    def _open(self, channel: Channel) -> ChannelRelay:
        cleaner = stream_as(self._guard, channel[0])
        self._reports.append(cleaner.report)
        return ChannelRelay(cleaner, self._index, channel, self._answer.listener(self._index, *channel))

    def _part_of(self, choice: Json) -> Json | None:
        """The message or delta, if there is one; None: the choice is a piece of a completion, or holds none."""
        for key in ("delta", "message"):
            part = choice.get(key)
            if isinstance(part, str):
                part = {"content": part}
            if isinstance(part, dict):
                self._key = key
                return part
        if "text" in choice:
            self._key = "text"
            return None
        return {} if self._key != "text" else None

    def _message(self, message: Json) -> Json:
        return {"index": self._index, self._key: message.get("text", "") if self._key == "text" else message}

    def _event(self, choice: Json, more: Json | None = None) -> Json:
        return {**self._frame, "choices": [choice], **(more or {})}

    def _pass(self, event: Json, out: list[bytes]) -> None:
        """Send what brings no text that has a channel; it may bring others."""
        clean_keys(self._guard, event)
        texts = list(texts_within(event))
        if texts:
            self._extras.feed(event, texts, out)
        elif self._gate is not None:
            self._gate.pass_on([_written(event)], out)
        else:
            out.append(_written(event))

    def _take_apart(self, choice: Json, part: Json | None) -> tuple[list[tuple[int, Json]], list[_Found]]:
        """Take the texts that have channels, and beginnings of tool calls, out of a piece."""
        texts: list[_Found] = []
        heads: list[tuple[int, Json]] = []
        if part is None:
            text = choice.get("text")
            self._find_text(texts, "text", text if isinstance(text, str) else plain_content(text))
            return heads, texts
        if (text := plain_content(part.get("content"))) is not None:
            part["content"] = text
        for field in MESSAGE_TEXTS:
            if isinstance(part.get(field), str) and part[field]:
                self._find_text(texts, field, part.pop(field))
        self._take_function_call(part, heads, texts)
        audio = part.get("audio")
        if isinstance(audio, dict) and isinstance(audio.get("transcript"), str):
            self._find_text(texts, "transcript", audio.pop("transcript"))
        calls = part.get("tool_calls")
        if isinstance(calls, list):
            pieces = [call for call in calls if isinstance(call, dict)]
            numbers = self.calls.numbers(pieces)
            rest = [self._take_call(call, n, heads, texts) for call, n in zip(pieces, numbers, strict=True)]
            part["tool_calls"] = [call for call in rest if call.keys() > {"index"}]
        if not part.get("tool_calls"):
            part.pop("tool_calls", None)
        return heads, texts

    def _take_call(self, call: Json, number: int, heads: list[tuple[int, Json]], texts: list[_Found]) -> Json:
        """Take the name and the arguments out of a piece of a tool call; returns what is left."""
        name = ""
        kind = "custom" if isinstance(call.get("custom"), dict) else "function"
        own = call.get(kind)
        if isinstance(own, dict):
            field = "input" if kind == "custom" else "arguments"
            value = own.pop(field, None)
            if value not in (None, ""):
                self._find_text(texts, field, as_text(value), number)
            name = own.pop("name", None) or ""
            if not isinstance(name, str):
                name = as_text(name)
        if (call.get("id") or name) and number not in self._opened:
            beginning = {"arguments" if kind == "function" else "input": "", "name": name}
            heads.append((number, {"index": number, "id": call.get("id"), "type": kind, kind: beginning}))
        rest = {
            n: value for n, value in call.items() if n not in ("index", "id", "type") and value not in (None, {}, "")
        }
        return {"index": number, **rest}

    def _take_function_call(self, part: Json, heads: list[tuple[int, Json]], texts: list[_Found]) -> None:
        """The form of a call that came before `tool_calls`."""
        call = part.get("function_call")
        if not isinstance(call, dict):
            return
        name, arguments = call.pop("name", None), call.pop("arguments", None)
        if name and isinstance(name, str) and _FUNCTION_CALL not in self._opened:
            heads.append((_FUNCTION_CALL, {"name": name, "arguments": ""}))
        if arguments not in (None, ""):
            self._find_text(texts, "function_call", as_text(arguments))
        if not call:
            del part["function_call"]

    def _find_text(self, texts: list[_Found], field: str, text: str | None, number: int = 0) -> None:
        if not text:
            return
        channel = (field, number)
        text, half = join_halves(self._halves.pop(channel, "") + text)
        if half:
            self._halves[channel] = half
        if text:
            texts.append((channel, text, _message_with(channel, text)))

    def _add_head(self, number: int, head: Json) -> None:
        """A tool call begins, or its name goes on."""
        matched = self._heads.setdefault(number, head)
        if matched is not head:
            matched["id"] = matched.get("id") or head.get("id")
            name = _named(matched)["name"] + _named(head)["name"]
            _named(matched)["name"] = name[:_MAX_NAME]

    def _open_heads(self, out: list[bytes], but: Iterable[int] = ()) -> None:
        """Send the beginnings of tool calls: their names are whole."""
        for number in [number for number in self._heads if number not in but]:
            head = self._heads.pop(number)
            self._opened.add(number)
            self.calls.named(number)
            named, own = _named(head), head.get("id")
            named["name"], report = self._guard.clean_text(named["name"])
            if report:
                self._reports.append(report)
            if isinstance(own, str) and not is_identifier("id", own):
                head["id"] = f"call_{number}"
            message = {"function_call": head} if number == _FUNCTION_CALL else {"tool_calls": [head]}
            event = _written(self._event({**self._message(message), "logprobs": None, "finish_reason": None}))
            if self._gate is None:
                out.append(event)
            else:
                self._gate.pass_on([event], out)

    def _take_details(self, details: Any, ids: Any, texts: list[_Found]) -> Spelled | None:
        """Read what an event says of its tokens; what may be shown of it in its turn."""
        if not details and not ids and not self._apart and not (self._told and texts):
            return None
        if self._gate is None or not self._apart:
            self._gate = self._open_gate()
        gate = self._gate
        if self._shows_ids and isinstance(ids, list):
            gate.late_ids += [token_id for token_id in ids if type(token_id) is int]
        spelled = gate.read(details) if details else None
        for _, text, _ in texts:
            gate.note_text(text)
        if spelled is not None and not gate.readable:
            gate.late.append(spelled.value)
            return None
        return spelled

    def _open_gate(self) -> DetailGate:
        """Details say something else than the text from here on: those that went with it are read again."""
        gate = self._gate or DetailGate(self._guard, without_details)
        self._apart = True
        if not self._told:
            return gate
        waiting = [
            (event, text, details) for event, text in self.channels[CONTENT].waiting if (details := details_in(event))
        ]
        num_waiting = sum(len(text) for _, text, _ in waiting)
        gate.begin(self._told[: max(0, len(self._told) - num_waiting)])
        for event, text, details in waiting:
            gate.read_own(event, details)
            gate.note_text(text)
        return gate

    def _detailed(self, event: Json, spelled: Spelled) -> bytes:
        assert self._gate is not None
        event["choices"][0]["logprobs"] = spelled.value
        data = _written(event)
        self._gate.expect(data, spelled)
        return data

    def _stopped_by_text(self) -> bool:
        """Whether a stop string may have ended the choice: its tokens spell what the text does not show."""
        if not self._stops or (self._end is not None and self._end["choices"][0]["finish_reason"] != "stop"):
            return False
        return self._stop_reason is _NOT_TOLD or isinstance(self._stop_reason, str)

    def _late_details(self, gate: DetailGate) -> list[bytes]:
        if not gate.late and not gate.late_ids:
            return []
        choice = {**self._message({}), "logprobs": joined_details(gate.late), "finish_reason": None}
        if gate.late_ids:
            choice["token_ids"] = gate.late_ids
        return [_written(self._event(choice))]


_Found = tuple[Channel, str, Json]
"""A text, its channel, and a message that holds nothing else."""


def _message_with(channel: Channel, text: str) -> Json:
    """A message with this text only."""
    field, number = channel
    if field in ("arguments", "input"):
        kind = "function" if field == "arguments" else "custom"
        return {"tool_calls": [{"index": number, kind: {field: text}}]}
    if field == "function_call":
        return {field: {"arguments": text}}
    return {"audio": {field: text}} if field == "transcript" else {field: text}


def _named(head: Json) -> Json:
    """Where the name of a tool call stands."""
    own: Json = head.get("function") or head.get("custom") or head
    return own


def _written(event: Json) -> bytes:
    return b"data: " + encode(event)
