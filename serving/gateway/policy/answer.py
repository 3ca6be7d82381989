"""An answer's texts, taken from what is about to be released, and other texts put in their place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from serving.gateway.context import RequestContext
from serving.gateway.dialects import Dialect
from serving.gateway.policy.refusal import Written, written_choice, written_events, written_stream, written_whole
from serving.gateway.policy.review import AnswerText
from serving.gateway.streams.answer import texts_of_choice
from serving.gateway.streams.chunks import Json, choice_number, choices_of, decode_any, encode
from serving.gateway.streams.recording import ANSWER_START_CHARS
from serving.gateway.streams.sse import DONE, EventSplitter, event_data
from serving.provenance.receipts import AnswerDigests

_ANSWER = ("content", "text")


def texts_of_whole(context: RequestContext, body: bytes) -> list[AnswerText]:
    """The texts of a clean answer in one piece."""
    dialect = context.dialect
    if dialect is None:
        return [
            text for position, choice in enumerate(choices_of(decode_any(body))) for text in _texts(choice, position)
        ]
    texts = []
    for text_field in dialect.text_fields(decode_any(body)):
        value = text_field.holder[text_field.key]
        kind = "text" if text_field.is_answer else text_field.key if text_field.key != "text" else "content"
        texts.append(AnswerText(0, kind, encode(value).decode() if text_field.parsed else value))
    return texts


def texts_of_events(context: RequestContext, data: bytes) -> list[AnswerText]:
    """The texts of a stream's clean events, each put together."""
    pieces: dict[tuple[object, ...], list[str]] = {}
    about: dict[tuple[object, ...], AnswerText] = {}
    for event in EventSplitter().feed(data):
        read = event_data(event)
        if read is None:
            continue
        for key, piece in _pieces(context.dialect, read):
            pieces.setdefault(key, []).append(piece.text)
            about[key] = piece
    return [about[key]._replace(text="".join(parts)) for key, parts in pieces.items()]


def _pieces(dialect: Dialect | None, data: bytes) -> Iterator[tuple[tuple[object, ...], AnswerText]]:
    """The pieces of texts in one event, each with what tells its text from others."""
    if dialect is None:
        for position, choice in enumerate(_choices(data)):
            for text in _texts(choice, position):
                yield (text.choice, text.kind, text.call), text
        return
    decoded = decode_any(data)
    for part in dialect.unfold(decoded) if isinstance(decoded, dict) else ():
        event = dialect.read_event(part)
        if event.channel is not None:
            yield event.channel, AnswerText(0, event.channel[0], event.text)


def _choices(data: bytes) -> list[Json]:
    event = decode_any(data) if data != b"[DONE]" else None
    return choices_of(event) if isinstance(event, dict) else []


def _texts(choice: Json, position: int) -> Iterator[AnswerText]:
    index = choice_number(choice, position)
    for (kind, call), holder, key in texts_of_choice(choice):
        yield AnswerText(index, kind, holder[key], call)


def replaced_whole(context: RequestContext, body: bytes, written: Mapping[int, Written]) -> bytes:
    """The answer with other choices in place of some."""
    if context.dialect is not None:
        return written_whole(context, written)
    data = decode_any(body)
    for position, choice in enumerate(data["choices"]):
        if (own := written.get(index := choice_number(choice, position))) is not None:
            data["choices"][position] = written_choice(context, index, own)
    return encode(data)


def replaced_events(context: RequestContext, data: bytes, written: Mapping[int, Written]) -> list[bytes]:
    """The events of a whole stream, to its last one, with other choices in place of some."""
    if context.dialect is not None:
        return written_stream(context, written)
    kept: list[bytes] = []
    end = 0
    for event in EventSplitter().feed(data):
        read = event_data(event)
        choices = _choices(read) if read else []
        if not choices or choice_number(choices[0], 0) not in written:
            kept.append(event)
            end = len(kept) if choices else end
    own = [event for index, text in written.items() for event in written_events(context, index, text)]
    return [*kept[:end], *own, *kept[end:], DONE]


def joined(events: Iterable[bytes]) -> bytes:
    """Events as they go over the wire."""
    return b"".join(event + b"\n\n" for event in events)


def note_replaced(context: RequestContext, written: Mapping[int, Written], texts: Sequence[AnswerText]) -> None:
    """Have header, receipt and record speak of what is released.

    What stands in place of an answer is written without a mark, by the policy or greedily by a model.
    """
    if context.mark_scheme != "off" and all(text.choice in written for text in texts):
        context.mark_scheme, context.mark_key_id, context.mark_note = "off", "", "policy"
    last = list(written.values())[-1]
    context.finish_reason = last.finish_reason
    answers = [text for text in texts if text.choice not in written and text.kind in _ANSWER]
    context.answer_start = "".join([*(own.text for own in written.values()), *(text.text for text in answers)])[
        :ANSWER_START_CHARS
    ]
    if context.digests is None:
        return
    question, context.digests = context.digests.question, AnswerDigests({})
    context.digests.question = question
    for text in texts:
        if text.choice not in written:
            context.digests.text(text.choice, text.kind, text.call).add(text.text)
    for choice, own in written.items():
        context.digests.text(choice).add(own.text)
