"""An answer's texts, taken from what is about to be released, and other texts put in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serving.gateway.context import RequestContext
from serving.gateway.endpoints.texts import AnswerText, Written, WrittenAnswer
from serving.gateway.streams.recording import ANSWER_START_CHARS

_ANSWER = ("content", "text")


def answer_texts(context: RequestContext) -> list[AnswerText]:
    """The texts of the answer, as they were cleaned."""
    heard = context.answer.heard
    texts = heard.all() if heard is not None else ()
    return [AnswerText(text.choice, text.kind, text.text, text.part if type(text.part) is int else 0) for text in texts]


def written_answer(context: RequestContext, choices: Mapping[int, Written]) -> WrittenAnswer:
    """An answer of ours to this question."""
    return WrittenAnswer(
        choices,
        number=context.request_id.removeprefix("req_"),
        created=int(context.created_at),
        model=context.question.model,
        prompt_tokens=context.answer.prompt_tokens,
        completion_tokens=context.answer.completion_tokens,
        wants_usage=context.question.wants_usage,
    )


def replace_whole(
    context: RequestContext, body: bytes, written: Mapping[int, Written], texts: Sequence[AnswerText]
) -> bytes:
    """The answer with texts of ours in place of some of its own, of which header, receipt and record speak then."""
    note_replaced(context, written, texts)
    return context.endpoint.replace_in_answer(body, written_answer(context, written))


def replace_events(
    context: RequestContext, data: bytes, written: Mapping[int, Written], texts: Sequence[AnswerText]
) -> list[bytes]:
    """The same of a whole stream's events."""
    note_replaced(context, written, texts)
    return context.endpoint.replace_in_stream(data, written_answer(context, written))


def note_replaced(context: RequestContext, written: Mapping[int, Written], texts: Sequence[AnswerText]) -> None:
    """Have header, receipt and record speak of what is released.

    What stands in place of an answer is written without a mark, by the policy or greedily by a model.
    """
    mark = context.mark
    answer = context.answer
    if mark.scheme != "off" and all(text.choice in written for text in texts):
        mark.leave_out("policy")
    last = list(written.values())[-1]
    answer.finish_reason = last.finish_reason
    answers = [text for text in texts if text.choice not in written and text.kind in _ANSWER]
    answer.start = "".join([*(own.text for own in written.values()), *(text.text for text in answers)])[
        :ANSWER_START_CHARS
    ]
    answer.digest_anew()
    if answer.digests is None:
        return
    for text in texts:
        if text.choice not in written:
            answer.digests.text(text.choice, text.kind, text.call).add(text.text)
    for choice, own in written.items():
        answer.digests.text(choice).add(own.text)
