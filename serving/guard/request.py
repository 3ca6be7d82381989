"""Cleans a request's body in place: every string that can reach the model's prompt.

In this order: what no reader sees is removed, values are masked, control tokens are made inert. Fields are taken as
text unless they are known not to be: a field that the engine learns tomorrow is cleaned today.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Literal

from serving.guard.control import ControlTokens
from serving.guard.detector import Detector
from serving.guard.limits import MEDIA_FIELDS, check_limits
from serving.guard.outcome import GuardRefusal, GuardReport
from serving.guard.settings import GuardSettings
from serving.guard.stream import StreamCleaner, is_plain
from serving.guard.visible import VisibleText

Endpoint = Literal["chat", "completions", "embeddings", "responses", "messages", "tokenize"]

_NOT_TEXT = frozenset(
    {
        *("model", "user", "metadata", "service_tier", "request_id", "session_id", "cache_salt", "safety_identifier"),
        *("logit_bias", "stream_options", "vllm_xargs", "media_io_kwargs", "mm_processor_kwargs", "mm_payload"),
        # Grammars and patterns for the answer: they never reach the prompt, and a changed pattern is another one.
        *("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "bad_words"),
    }
)
_RAW_FIELDS = frozenset({"prompt", "suffix", "stop"})
"""Fields of /v1/completions that keep control tokens under `raw_prompts: allow`."""

_TOKEN_FIELDS: dict[Endpoint, str] = {"completions": "prompt", "embeddings": "input"}
"""Fields that may hold token ids in place of text."""

_MASKED_FIELDS = frozenset({"messages", "prompt", "suffix", "documents", "input", "instructions", "system"})
"""Fields in which values are masked: what a person wrote. Definitions of tools are their developer's."""

_IDENTIFIERS = frozenset({"name", "id", "tool_call_id", "call_id", "tool_use_id", "type"})
"""Fields of a message that must stay what they are for the engine to line calls and results up."""

_PART_TEXTS = ("text", "refusal", "thinking")

_PART_LISTS = frozenset({"content", "output", "summary"})
"""Fields of a message, an item or a part that may hold parts."""

_REFUSED = {
    "chat_template": "'chat_template' cannot be set by a request: it could give a user's words any role.",
    "previous_input_messages": "'previous_input_messages' cannot be sent: it takes roles from a user's words.",
    "prompt_embeds": "'prompt_embeds' cannot be sent: nothing can be cleaned in them. Send text.",
}
_SUSPECT = frozenset({*_REFUSED, "chat_template_kwargs", "vllm_xargs"})
"""Fields that a request may be refused for."""

_PLAIN_NAMES = frozenset(
    {
        "role",
        "content",
        "name",
        "type",
        "text",
        "tool_calls",
        "tool_call_id",
        "function",
        "arguments",
        "id",
        "index",
        "description",
        "parameters",
        "properties",
        "required",
        "strict",
        "enum",
        "items",
        "refusal",
        "reasoning",
        "reasoning_content",
    }
)
"""Names of nearly all fields there are: known to hold nothing to clean."""

_REFUSED_KWARGS = frozenset({"chat_template", "tokenize", "tokenizer", "conversation", "messages"})


class RequestCleaner:
    """Cleans bodies with one set of detectors and control tokens."""

    def __init__(self, settings: GuardSettings, tokens: ControlTokens, detectors: Sequence[Detector]) -> None:
        self._settings = settings
        self._tokens = tokens
        self._detectors = detectors
        self._patient = all(detector.skips_plain_words for detector in detectors)
        self._roles = frozenset(settings.roles)

    def clean(self, body: dict[str, Any], endpoint: Endpoint) -> GuardReport:
        """Clean `body` in place.

        Raises:
            GuardRefusal: it holds something that is refused rather than cleaned.
        """
        if endpoint != "messages" and self._clean_plainly(body):
            return GuardReport()
        check_limits(body, self._settings)
        _refuse_fields(body)
        if (token_field := _TOKEN_FIELDS.get(endpoint)) is not None:
            self._refuse_token_prompts(body.get(token_field), token_field)
        cleaning = _Cleaning(self._tokens, self._detectors)
        raw = endpoint in ("completions", "tokenize") and self._settings.raw_prompts == "allow"
        for field, value in list(body.items()):
            if field == "messages" and isinstance(value, list):
                body[field] = [self._message(cleaning, message, f"messages[{n}]") for n, message in enumerate(value)]
            elif field == "input" and isinstance(value, list) and endpoint == "responses":
                body[field] = [self._item(cleaning, item, f"input[{n}]") for n, item in enumerate(value)]
            elif field == "system" and isinstance(value, list):
                body[field] = _clean_parts(cleaning, value, field)
            elif field not in _NOT_TEXT:
                inert = not (raw and field in _RAW_FIELDS)
                body[field] = cleaning.value(value, masks=field in _MASKED_FIELDS, inert=inert)
        if endpoint == "messages":
            _clean_system_seams(cleaning, body)
        _refuse_fields(body)  # again: a hidden character in a name hides nothing
        return cleaning.report

    def _clean_plainly(self, body: dict[str, Any]) -> bool:
        """One cheap look at a body of the usual shape: True when it is within all bounds and has nothing to clean.

        The usual shape is numbers, plain words, and messages of plain words. Anything else is left to the full walk,
        which would change nothing in what passes here.
        """
        if not self._patient or not _SUSPECT.isdisjoint(body):
            return False
        num_values = num_chars = 0
        for field, value in body.items():
            num_values += 1
            kind = type(value)
            if kind is str:
                num_chars += len(value)
                if field not in _NOT_TEXT and not self._is_plain(value):
                    return False
            elif field == "messages" and kind is list:
                for message in value:
                    chars = self._plain_message(message)
                    if chars < 0:
                        return False
                    num_chars += chars
                    num_values += 1 + 2 * len(message)
            elif field == "stream_options" and kind is dict:
                num_values += 2 * len(value)
                if not all(option is True or option is False for option in value.values()):
                    return False
            elif kind is list or kind is dict:
                return False
        return num_values <= self._settings.max_values and num_chars <= self._settings.max_text_chars

    def _plain_message(self, message: Any) -> int:
        """Characters of a message that has nothing to clean; -1 when that is not certain."""
        if type(message) is not dict:
            return -1
        role = message.get("role")
        if type(role) is not str or role not in self._roles:
            return -1
        num_chars = 0
        for field, value in message.items():
            if type(value) is not str or field not in _PLAIN_NAMES or field == "function_call":
                return -1
            if field != "role" and not self._is_plain(value):
                return -1
            num_chars += len(field) + len(value)
        return num_chars

    def _is_plain(self, text: str) -> bool:
        return is_plain(text) and self._tokens.none_in(text)

    def _refuse_token_prompts(self, prompt: Any, field: str) -> None:
        if self._settings.token_prompts == "allow" or not isinstance(prompt, list):  # noqa: S105 - tokens of text
            return
        if any(not isinstance(item, str) for item in prompt):
            message = "A prompt of token ids cannot be cleaned and is refused. Send the prompt as text."
            raise GuardRefusal(code="token_prompt_refused", message=message, param=field)

    def _item(self, cleaning: _Cleaning, item: Any, path: str) -> Any:
        """An item of a response's input: a message, or a tool's call, its result, a summary of reasoning …"""
        if not isinstance(item, dict) or "role" in item or item.get("type", "message") == "message":
            return self._message(cleaning, item, path)
        return cleaning.fields(item, lambda field, value: _clean_field(cleaning, field, value, f"{path}.{field}"))

    def _message(self, cleaning: _Cleaning, message: Any, path: str) -> Any:
        if not isinstance(message, dict):
            return cleaning.value(message, masks=True)
        if message.get("role") not in self._settings.roles:
            known = ", ".join(self._settings.roles)
            text = f"A message's role must be one of {known}."
            raise GuardRefusal(code="unknown_role", message=text, param=f"{path}.role")
        return cleaning.fields(message, lambda field, value: _clean_field(cleaning, field, value, f"{path}.{field}"))


def _refuse_fields(body: dict[str, Any]) -> None:
    for field, message in _REFUSED.items():
        if body.get(field) is not None:
            raise GuardRefusal(code="field_refused", message=message, param=field)
    kwargs = body.get("chat_template_kwargs")
    if isinstance(kwargs, dict) and (refused := sorted(_REFUSED_KWARGS & kwargs.keys())):
        message = f"'{refused[0]}' cannot be set by a request."
        raise GuardRefusal(code="field_refused", message=message, param=f"chat_template_kwargs.{refused[0]}")
    arguments = body.get("vllm_xargs")
    if isinstance(arguments, dict) and any(str(name).startswith("signet_") for name in arguments):
        message = "'vllm_xargs' must not hold names that begin with 'signet_': the gateway sets these."
        raise GuardRefusal(code="field_refused", message=message, param="vllm_xargs")


def _clean_field(cleaning: _Cleaning, field: str, value: Any, path: str) -> Any:
    """One field of a message."""
    if field == "role":
        return value
    if field in _PART_LISTS and isinstance(value, list):
        return _clean_parts(cleaning, value, path)
    if field == "arguments" and isinstance(value, str):
        return cleaning.json_text(value)
    if field == "tool_calls" and isinstance(value, list):
        return [_clean_call(cleaning, call) for call in value]
    if field == "function_call":
        return _clean_function(cleaning, value)
    return cleaning.value(value, masks=field not in _IDENTIFIERS)


def _clean_call(cleaning: _Cleaning, call: Any) -> Any:
    if not isinstance(call, dict):
        return cleaning.value(call, masks=True)

    def clean(field: str, value: Any) -> Any:
        if field == "function":
            return _clean_function(cleaning, value)
        return cleaning.value(value, masks=field not in _IDENTIFIERS)

    return cleaning.fields(call, clean)


def _clean_function(cleaning: _Cleaning, function: Any) -> Any:
    if not isinstance(function, dict):
        return cleaning.value(function, masks=True)

    def clean(field: str, value: Any) -> Any:
        if field == "arguments":
            return cleaning.json_text(value) if isinstance(value, str) else cleaning.data(value)
        return cleaning.value(value, masks=field not in _IDENTIFIERS)

    return cleaning.fields(function, clean)


def _clean_parts(cleaning: _Cleaning, parts: list[Any], path: str) -> list[Any]:
    """The parts of one message's content. Their texts may be joined by the template, so their seams count too."""
    cleaned: list[Any] = []
    for number, part in enumerate(parts):
        if isinstance(part, dict) and "prompt_embeds" in (part.get("type"), *part):
            raise GuardRefusal(code="field_refused", message=_REFUSED["prompt_embeds"], param=f"{path}[{number}]")
        cleaned.append(cleaning.part(part))
    places = [
        (holder, key) for number, part in enumerate(cleaned) for holder, key in _text_places(cleaned, number, part)
    ]
    for (holder, key), text in zip(places, cleaning.seams([holder[key] for holder, key in places]), strict=True):
        holder[key] = text
    return cleaned


def _clean_system_seams(cleaning: _Cleaning, body: dict[str, Any]) -> None:
    """Engines join the texts of a message's `system` and of its system messages without a space between."""
    given = body.get("messages")
    messages = (
        [m for m in given if isinstance(m, dict) and m.get("role") == "system"] if isinstance(given, list) else []
    )
    places: list[tuple[Any, Any]] = []
    for holder, key in [(body, "system"), *((message, "content") for message in messages)]:
        value = holder.get(key)
        if isinstance(value, str):
            places.append((holder, key))
        elif isinstance(value, list):
            places += [place for number, part in enumerate(value) for place in _text_places(value, number, part)]
    for (holder, key), text in zip(places, cleaning.seams([holder[key] for holder, key in places]), strict=True):
        holder[key] = text


def _text_places(parts: list[Any], number: int, part: Any) -> list[tuple[Any, Any]]:
    """Where the texts of a part stand, as (container, key)."""
    if isinstance(part, str):
        return [(parts, number)]
    if isinstance(part, dict):
        return [(part, key) for key in _PART_TEXTS if isinstance(part.get(key), str)]
    return []


class _Cleaning:
    """Cleans the strings of one request and counts."""

    def __init__(self, tokens: ControlTokens, detectors: Sequence[Detector]) -> None:
        self._tokens = tokens
        self._detectors = detectors
        self.report = GuardReport()

    def value(self, value: Any, *, masks: bool, inert: bool = True) -> Any:
        """Every string in `value`, keys too; numbers and the rest stay."""
        if isinstance(value, str):
            return self._text(value, masks=masks, inert=inert)
        if isinstance(value, list):
            return [self.value(item, masks=masks, inert=inert) for item in value]
        if isinstance(value, dict):
            return self._renamed(value, inert, lambda _, item: self.value(item, masks=masks, inert=inert))
        return value

    def fields(self, holder: dict[str, Any], clean: Callable[[str, Any], Any]) -> dict[str, Any]:
        """The fields of a message or a part of it. One whose name would change is dropped: it poses as another."""
        return {field: clean(field, value) for field, value in holder.items() if self._name(field, True) == field}

    def part(self, part: Any) -> Any:
        """A part of a message's content; pictures and sound pass as they are."""
        if not isinstance(part, dict):
            return self.value(part, masks=True)

        def clean(field: str, value: Any) -> Any:
            if field in MEDIA_FIELDS or (field == "source" and _is_media(value)):
                return value
            if field in _PART_LISTS and isinstance(value, list):
                return _clean_parts(self, value, field)
            if field == "input" and isinstance(value, dict):
                return self.data(value)
            return self.value(value, masks=field not in _IDENTIFIERS)

        return self.fields(part, clean)

    def json_text(self, text: str) -> str:
        """JSON in a string, as in a tool call's arguments: the engine parses it, so it is cleaned parsed.

        Stays as it is, to the byte, when there is nothing to clean.
        """
        try:
            data, doubled = _parse(text)
        except (ValueError, RecursionError):
            return self._text(text, masks=True, inert=True)
        cleaned = self.data(data)
        # The escapes that JSON needs hide nothing from the model: it is shown the parsed strings.
        return text if cleaned == data and not doubled else json.dumps(cleaned, ensure_ascii=False)

    def seams(self, texts: list[str]) -> list[str]:
        """Texts that may be joined: no control token is in one of them or across two."""
        if len(texts) < 2:
            return texts
        texts, count = self._tokens.inert_parts(texts)
        self.report.add("control_token", "inert", count)
        return texts

    def data(self, data: Any, key: str = "") -> Any:
        """Parsed JSON that stands under `key`; a number that is to be masked becomes a string."""
        if isinstance(data, list):
            return [self.data(item) for item in data]
        if isinstance(data, dict):
            return self._renamed(data, True, lambda name, item: self.data(item, name))
        if isinstance(data, int) and not isinstance(data, bool):
            return self._number(data, key)
        return self.value(data, masks=True)

    def _number(self, number: int, key: str) -> int | str:
        """Look at a number as it stands in JSON, with its key: `phone` tells what the digits are."""
        before = f"{json.dumps(key)}: "
        after = self._masked(f"{before}{number}")[len(before) :]
        return number if after == str(number) else after.strip('"')

    def _renamed(self, holder: dict[str, Any], inert: bool, clean: Callable[[str, Any], Any]) -> dict[str, Any]:
        """A dictionary with clean keys and values. A key that had to be cleaned takes no other's place."""
        cleaned: dict[str, Any] = {}
        for key, item in holder.items():
            name = self._name(key, inert)
            if name == key or name not in holder:
                cleaned[name] = clean(key, item)
        return cleaned

    def _name(self, name: str, inert: bool) -> str:
        return name if name in _PLAIN_NAMES else self._text(name, masks=False, inert=inert)

    def _text(self, text: str, *, masks: bool, inert: bool) -> str:
        if masks:
            text = self._masked(text)
        else:
            visible = VisibleText()
            text = visible.feed(text) + visible.finish()
            self.report.add("invisible", "strip", visible.num_removed)
        if inert:
            text, count = self._tokens.inert(text)
            self.report.add("control_token", "inert", count)
        return text

    def _masked(self, text: str) -> str:
        cleaner = StreamCleaner(self._detectors)
        text = cleaner.feed(text) + cleaner.finish()
        self.report.merge(cleaner.report)
        return text


def _is_media(source: Any) -> bool:
    """A picture or file as Anthropic's clients send it, or where it is; a `source` may also be text."""
    return isinstance(source, dict) and source.get("type") in ("base64", "url", "file")


def _parse(text: str) -> tuple[Any, bool]:
    """Parsed JSON, and whether an object has one key twice: only the last of them would have been cleaned."""
    doubled = False

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal doubled
        collected = dict(pairs)
        doubled = doubled or len(collected) < len(pairs)
        return collected

    return json.loads(text, object_pairs_hook=collect), doubled
