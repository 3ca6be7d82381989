"""The whole answer, not streamed: cleaned, and passed on as the bytes that came when nothing had to change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from serving.gateway.context import RequestContext
from serving.gateway.errors import EngineFailed
from serving.gateway.streams.chunks import (
    ABORTED,
    MESSAGE_TEXTS,
    UNREADABLE,
    Channel,
    Json,
    choice_number,
    choices_of,
    decode_loose,
    decode_usual_answer,
    encode,
    finish_reason_of,
    names_of,
    require_utf8,
    texts_of_answer,
)
from serving.gateway.streams.details import clean_details, clean_prompt_details
from serving.gateway.streams.duplicate_keys import repeats_keys
from serving.gateway.streams.recording import record_counts, record_text
from serving.gateway.streams.texts import (
    are_identifiers,
    as_text,
    clean_as,
    clean_keys,
    clean_where_it_stands,
    drop_opaque,
    is_identifier,
    plain_content,
    texts_within,
)
from serving.guard import Answers, GuardReport

_DETAILS = ("logprobs", "token_ids")
_NOT_OPAQUE = frozenset({"choices", "usage"})
_PROMPT_DETAILS = ("prompt_logprobs", "prompt_token_ids")


@dataclass(frozen=True, slots=True)
class CleanAnswer:
    """What the client gets, and what the guard did to it."""

    body: bytes
    reports: list[GuardReport]


def clean_answer(context: RequestContext, guard: Answers, body: bytes) -> CleanAnswer:
    """Clean every text of an answer and note its usage in the context.

    Raises:
        EngineFailed: the engine's body is not an answer, or only a part of one.
    """
    if (report := _clean_usual(context, guard, body)) is not None:
        return CleanAnswer(body, report)
    try:
        answer, is_standard = decode_loose(body)
        choices = choices_of(answer) if isinstance(answer, dict) else []
        if not choices:
            raise EngineFailed("The engine sent an answer without choices.")
        record_counts(context, answer.get("usage"))
        if any(finish_reason_of(choice) == ABORTED for choice in choices):
            raise EngineFailed("The engine gave the answer up when it was stopped.")
        cleaning = _Cleaning(context, guard)
        cleaning.clean(answer, choices)
    except UNREADABLE:
        raise EngineFailed("The engine sent what is no answer in JSON.") from None
    return CleanAnswer(encode(answer) if cleaning.changed or not is_standard else body, cleaning.reports)


def _clean_usual(context: RequestContext, guard: Answers, body: bytes) -> list[GuardReport] | None:
    """What the guard found in an answer of the usual shape; None: it has another, or the guard changes something."""
    try:
        require_utf8(body)
        answer = decode_usual_answer(body)
        if repeats_keys(body):
            return None
    except UNREADABLE:
        return None
    if not answer.choices or not are_identifiers(names_of(answer)):
        return None
    reports: list[GuardReport] = []
    texts, finish = [], ""
    for choice in answer.choices:
        if choice.finish_reason == ABORTED:
            return None
        finish = choice.finish_reason or finish
        for channel, text in texts_of_answer(choice):
            cleaned, report = clean_as(guard, channel[0], text)
            if cleaned != text:
                return None
            reports += [report] if report else []
            texts.append((choice.index, channel, text))
    for index, channel, text in texts:
        if channel[0] != "name":
            record_text(context, channel, text)
            context.answer.tell(text, index, *channel)
    if answer.usage is not None:
        context.answer.note_usage(answer.usage.prompt_tokens, answer.usage.completion_tokens)
    context.answer.finish_reason = finish
    return reports


class _Cleaning:
    """Cleans one answer where it stands, and knows whether anything of it was changed."""

    def __init__(self, context: RequestContext, guard: Answers) -> None:
        self._context = context
        self._guard = guard
        self._done: set[tuple[int, Any]] = set()
        self.reports: list[GuardReport] = []
        self.changed = False

    def clean(self, answer: Json, choices: list[Json]) -> None:
        if len(choices) != len(answer["choices"]):
            answer["choices"], self.changed = choices, True
        prompt = self._take_prompt(answer)
        self._drop(answer)
        for position, choice in enumerate(choices):
            self._clean_choice(choice, choice_number(choice, position))
        # The choices are clean, and details of tokens are no texts.
        del answer["choices"]
        self._clean_rest(answer)
        answer |= {"choices": choices, **prompt}

    def _clean_choice(self, choice: Json, index: int) -> None:
        context = self._context
        answer = context.answer
        finish = finish_reason_of(choice)
        if finish:
            answer.finish_reason = finish if is_identifier("finish_reason", finish) else "stop"
        details = {name: choice.pop(name) for name in _DETAILS if choice.get(name) is not None}
        prompt = self._take_prompt(choice)
        before, self.changed = _to_texts(choice) or self.changed, False
        for channel, holder, key in texts_of_choice(choice):
            record_text(context, channel, holder[key])
            self._clean_text(holder, key, channel[0])
            answer.tell(holder[key], index, *channel)
        for text in self._clean_rest(choice):
            record_text(context, ("other", 0), text)
        shown = self._shown(choice, details) if not self.changed else {}
        self._drop(choice)
        self.changed |= before or any(shown.get(name) != value for name, value in details.items())
        choice |= {**dict.fromkeys(details), **shown, **prompt}

    def _shown(self, choice: Json, details: Json) -> Json:
        """What the client may see of the details of a choice that the guard did not change."""
        body = self._context.question.body
        logprobs = details.get("logprobs")
        value = clean_details(self._guard, logprobs) if logprobs else logprobs
        shown = {"logprobs": value} if "logprobs" in details else {}
        # A stop string is in the tokens and not in the text, and so is what a client asked not to see.
        stopped = bool(body.get("stop")) and stopped_by_text(choice)
        asked = body.get("return_token_ids") and body.get("include_reasoning") is not False
        ids = details.get("token_ids")
        if asked and isinstance(ids, list) and not stopped and (value is not None or not logprobs):
            shown["token_ids"] = [token_id for token_id in ids if type(token_id) is int]
        return shown

    def _clean_text(self, holder: Any, key: Any, kind: str) -> None:
        self._done.add((id(holder), key))
        self.changed |= clean_where_it_stands(self._guard, holder, key, self.reports, kind)

    def _clean_rest(self, tree: Json) -> list[str]:
        """Clean what has no name of its own; returns it as it was."""
        rest = [text for text in texts_within(tree) if (id(text.holder), text.key) not in self._done]
        values = [text.value for text in rest]
        for text in rest:
            self._clean_text(text.holder, text.key, text.kind)
        self.changed |= clean_keys(self._guard, tree)
        return values

    def _take_prompt(self, holder: Json) -> Json:
        details = {name: holder.pop(name) for name in _PROMPT_DETAILS if holder.get(name) is not None}
        shown = clean_prompt_details(self._context, self._guard, details) if details else {}
        self.changed |= shown != details
        return {**dict.fromkeys(details), **shown}

    def _drop(self, tree: Json) -> None:
        self.changed |= drop_opaque(tree, _NOT_OPAQUE)


def stopped_by_text(choice: Json) -> bool:
    """Whether a stop string may have ended a choice."""
    return finish_reason_of(choice) == "stop" and isinstance(choice.get("stop_reason", ""), str)


def texts_of_choice(choice: Json) -> Iterator[tuple[Channel, Any, Any]]:
    """The texts of a choice that are known by a name, with where they stand."""
    if isinstance(choice.get("text"), str) and choice["text"]:
        yield ("text", 0), choice, "text"
    part = _part(choice)
    for field in MESSAGE_TEXTS:
        if isinstance(part.get(field), str) and part[field]:
            yield (field, 0), part, field
    for position, call in enumerate(_calls(part)):
        for kind, field in _CALL_TEXTS:
            own = call.get(kind)
            if isinstance(own, dict) and isinstance(own.get(field), str) and own[field]:
                index = call.get("index")
                yield (field, index if type(index) is int and "delta" in choice else position), own, field
    old = part.get("function_call")
    if isinstance(old, dict) and isinstance(old.get("arguments"), str) and old["arguments"]:
        yield ("function_call", 0), old, "arguments"


_CALL_TEXTS = (("function", "arguments"), ("custom", "input"))


def _to_texts(choice: Json) -> bool:
    """Write as text what is text by the specification, and came as a list of texts or an object."""
    changed = False
    part = _part(choice)
    for holder, key in ((choice, "text"), (part, "content")):
        if (text := plain_content(holder.get(key))) is not None:
            holder[key], changed = text, True
    owners = [(call.get(kind), field) for call in _calls(part) for kind, field in _CALL_TEXTS]
    for own, field in [*owners, (part.get("function_call"), "arguments")]:
        if isinstance(own, dict) and isinstance(own.get(field), dict | list):
            own[field], changed = as_text(own[field]), True
    return changed


def _part(choice: Json) -> Json:
    part = choice.get("message") or choice.get("delta")
    return part if isinstance(part, dict) else {}


def _calls(part: Json) -> list[Json]:
    calls = part.get("tool_calls")
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
