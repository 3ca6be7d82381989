"""Cleans a request's body in place: every string that can reach the model's prompt.

In this order: what no reader sees is removed, values are masked, control tokens are made inert. Fields are taken as
text unless they are known not to be: a field that the engine learns tomorrow is cleaned today.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from serving.guard.detector import Detector
from serving.guard.outcome import GuardRefusal, GuardReport
from serving.guard.question.control import ControlTokens
from serving.guard.question.encoded import EncodedText
from serving.guard.question.fields import NO_EMBEDS, clean_field, clean_message_seams, clean_parts, clean_system_seams
from serving.guard.question.limits import check_limits
from serving.guard.question.memory import Memory
from serving.guard.question.strings import PLAIN_NAMES, Cleaning, InputRules
from serving.guard.settings import GuardSettings
from serving.guard.text.stream import is_plain

EndpointName = Literal["chat", "completions", "embeddings", "responses", "messages", "tokenize"]

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

_TOKEN_FIELDS: dict[EndpointName, str] = {"completions": "prompt", "embeddings": "input"}
"""Fields that may hold token ids in place of text."""

_DEVELOPERS_FIELDS = frozenset(
    {
        *("tools", "tool_choice", "functions", "function_call", "response_format", "text", "output_config"),
        *("stop", "stop_sequences", "include"),
    }
)
"""Fields in which values are not masked: definitions of tools and forms are their developer's, and name no person."""

_REFUSED = {
    "chat_template": "'chat_template' cannot be set by a request: it could give a user's words any role.",
    "previous_input_messages": "'previous_input_messages' cannot be sent: it takes roles from a user's words.",
    "prompt_embeds": NO_EMBEDS,
}
_SUSPECT = frozenset({*_REFUSED, "chat_template_kwargs", "vllm_xargs"})
"""Fields that a request may be refused for."""

_REFUSED_KWARGS = frozenset(
    {
        *("chat_template", "tokenize", "tokenizer", "conversation", "messages", "additional_special_tokens"),
        *("truncation", "max_length", "padding", "tokenizer_kwargs", "return_tensors", "return_dict"),
        "return_assistant_tokens_mask",
    }
)
"""Arguments of the function that renders, which engines take from the same place as a template's variables."""


class RequestCleaner:
    """Cleans bodies with one set of detectors and control tokens."""

    def __init__(
        self,
        settings: GuardSettings,
        tokens: ControlTokens,
        detectors: Sequence[Detector],
        noted: Sequence[Detector] = (),
    ) -> None:
        """`noted`: detectors of values that an answer may repeat."""
        actions = settings.input.acting()
        encoded = EncodedText(detectors, actions, tokens) if settings.encoded == "look" else None
        self._settings = settings
        self._tokens = tokens
        masks_hidden = settings.hidden_words == "mask"
        self._rules = InputRules(tokens, detectors, actions, noted, encoded, masks_hidden)
        self._patient = all(detector.skips_plain_words for detector in detectors)
        self._roles = frozenset(settings.roles)

    def clean(self, body: dict[str, Any], endpoint: EndpointName, memory: Memory | None = None) -> GuardReport:
        """Clean `body` in place, and fill `memory` with what its answer needs.

        Raises:
            GuardRefusal: it holds something that is refused rather than cleaned.
        """
        if endpoint != "messages" and self._clean_plainly(body):
            return GuardReport()
        limits = check_limits(body, self._settings)
        _refuse_fields(body)
        if (token_field := _TOKEN_FIELDS.get(endpoint)) is not None:
            self._refuse_token_prompts(body.get(token_field), token_field)
        if memory is not None:
            memory.begin(body)
        cleaning = Cleaning(self._rules, memory, limits)
        raw = endpoint in ("completions", "tokenize") and self._settings.raw_prompts == "allow"
        for field, value in list(body.items()):
            if field == "messages" and isinstance(value, list):
                body[field] = [self._message(cleaning, message, f"messages[{n}]") for n, message in enumerate(value)]
                clean_message_seams(cleaning, body[field])
            elif field == "input" and isinstance(value, list) and endpoint == "responses":
                body[field] = [self._item(cleaning, item, f"input[{n}]") for n, item in enumerate(value)]
                clean_message_seams(cleaning, body[field])
            elif field == "system" and isinstance(value, list):
                body[field] = clean_parts(cleaning, value, field)
            elif field not in _NOT_TEXT:
                inert = not (raw and field in _RAW_FIELDS)
                body[field] = cleaning.value(value, masks=field not in _DEVELOPERS_FIELDS, inert=inert)
            _refuse_blocked(cleaning.report, field)
        if endpoint == "messages":
            clean_system_seams(cleaning, body)
            _refuse_blocked(cleaning.report, "system")
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
                if len(value) > 1 and self._tokens.meet([message.get("content", "") for message in value]):
                    return False
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
            if type(value) is not str or field not in PLAIN_NAMES or field == "function_call":
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

    def _item(self, cleaning: Cleaning, item: Any, path: str) -> Any:
        """An item of a response's input: a message, or a tool's call, its result, a summary of reasoning …"""
        if not isinstance(item, dict) or "role" in item or item.get("type", "message") == "message":
            return self._message(cleaning, item, path)
        return cleaning.fields(item, lambda field, value: clean_field(cleaning, field, value, f"{path}.{field}"))

    def _message(self, cleaning: Cleaning, message: Any, path: str) -> Any:
        if not isinstance(message, dict):
            return cleaning.value(message, masks=True)
        if message.get("role") not in self._settings.roles:
            known = ", ".join(self._settings.roles)
            text = f"A message's role must be one of {known}."
            raise GuardRefusal(code="unknown_role", message=text, param=f"{path}.role")
        # A person's or an assistant's name is text; a tool's lines its result up with its call.
        named = message.get("role") not in ("tool", "function")

        def clean(field: str, value: Any) -> Any:
            if field == "name" and named:
                return cleaning.value(value, masks=True)
            return clean_field(cleaning, field, value, f"{path}.{field}")

        return cleaning.fields(message, clean)


def _refuse_blocked(report: GuardReport, field: str) -> None:
    if (entity := report.blocked) is not None:
        text = f"The request holds a value that is not let through here ({entity}). Leave it out."
        raise GuardRefusal(code="content_blocked", message=text, param=field, report=report)


def _refuse_fields(body: dict[str, Any]) -> None:
    for field, message in _REFUSED.items():
        if body.get(field) is not None:
            raise GuardRefusal(code="field_refused", message=message, param=field)
    kwargs = body.get("chat_template_kwargs")
    # `eos_token` and its like: what a template writes for them ends turns.
    if isinstance(kwargs, dict) and (
        refused := sorted(name for name in kwargs if name in _REFUSED_KWARGS or name.endswith("_token"))
    ):
        message = f"'{refused[0]}' cannot be set by a request."
        raise GuardRefusal(code="field_refused", message=message, param=f"chat_template_kwargs.{refused[0]}")
    arguments = body.get("vllm_xargs")
    if isinstance(arguments, dict) and any(str(name).startswith("signet_") for name in arguments):
        message = "'vllm_xargs' must not hold names that begin with 'signet_': the gateway sets these."
        raise GuardRefusal(code="field_refused", message=message, param="vllm_xargs")
