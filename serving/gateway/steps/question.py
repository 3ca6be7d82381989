"""Bytes to a question: a body of known fields, and what of it steers the gateway."""

from __future__ import annotations

from typing import Any

from serving.gateway.body import decode_object, model_of
from serving.gateway.context import RequestContext
from serving.gateway.engines.seen import CHARS_PER_TOKEN
from serving.gateway.errors import BadRequest
from serving.gateway.fields.rules import FieldRules
from serving.gateway.fields.tools import forces_tool
from serving.gateway.prompts import PREFIX
from serving.gateway.settings import GatewaySettings

_LENGTHS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_ANSWERS = frozenset({"n", "best_of", "prompt"})
_DETAILS = frozenset({"logprobs", "top_logprobs", "logprob_token_ids", "prompt_logprobs"})
# What an answer is taken to be long where its question does not say: `gateway.max_answer_bytes` bounds what comes.
_ASSUMED_TOKENS = 1024


class QuestionReader:
    """Reads questions as the settings say."""

    LIVE = (
        "gateway.max_choices",
        "gateway.max_answer_tokens",
        "gateway.max_embedding_inputs",
        "gateway.unknown_fields",
        "gateway.engine_fields",
        "gateway.media_hosts",
        "gateway.bind_forced_tools",
    )

    def __init__(self, settings: GatewaySettings) -> None:
        self.apply(settings)

    def apply(self, settings: GatewaySettings) -> None:
        """Take other settings from now on."""
        self._settings = settings
        self._rules = FieldRules(
            added=settings.engine_fields, unknown=settings.unknown_fields, media_hosts=settings.media_hosts
        )

    def read(self, context: RequestContext) -> dict[str, Any]:
        """Fill in body, model, stream, and how many answers are asked for. Returns the fields as the client sent them.

        Raises:
            BadRequest: not a JSON object, or a field that cannot be used.
        """
        question = context.question
        received = decode_object(context.raw_body)
        body = dict(received)
        question.body = body
        question.model = model = model_of(body)
        endpoint = context.endpoint
        path = endpoint.path
        question.ignored_fields = self._rules.apply(body, path, model.startswith(PREFIX))
        question.stream = body.get("stream") is True and endpoint.streams
        if "cache_salt" in body:
            question.own_salt = body.pop("cache_salt")
        if "tool_choice" in body:
            question.binds_tools = self._settings.bind_forced_tools and forces_tool(path, body)
        if not endpoint.has_choices:
            question.asked_model = model
            endpoint.check(body, self._settings)
        else:
            if "stream_options" in body:
                _read_stream_options(context, body["stream_options"])
            if not _ANSWERS.isdisjoint(body):
                self._read_choices(context, body)
        if question.sequences > 1 or not _DETAILS.isdisjoint(body):
            self._check_amount(context, body)
        return received

    def _read_choices(self, context: RequestContext, body: dict[str, Any]) -> None:
        most = self._settings.max_choices
        each: int = body.get("n", 1)
        made = max(each, _amount(body.get("best_of")))
        if made > most:
            name = "n" if each > most else "best_of"
            raise BadRequest(f"'{name}' must be a whole number from 1 to {most}.", param=name)
        prompts = num_texts(body.get("prompt")) if context.endpoint.name == "completions" else 1
        if prompts * made > most:
            message = (
                f"{prompts:,} prompts with {made:,} answers each are more than {most:,} answers; send fewer at once."
            )
            raise BadRequest(message, param="prompt")
        context.question.choices = each * prompts
        context.question.sequences = made * prompts

    def _check_amount(self, context: RequestContext, body: dict[str, Any]) -> None:
        """Bound what the answer can be large by: tokens, and alternatives to each."""
        # Where an operator lets others pass, a field that is not the endpoint's own may hold anything.
        ids = body.get("logprob_token_ids")
        details = max(
            _amount(body.get("top_logprobs")), _amount(body.get("logprobs")), len(ids) if type(ids) is list else 0
        )
        of_prompt = _amount(body["prompt_logprobs"]) + 1 if "prompt_logprobs" in body else 0
        length = next((_amount(body[name]) for name in _LENGTHS if name in body), _ASSUMED_TOKENS)
        amount = context.question.sequences * length * (1 + details)
        amount += len(context.raw_body) // CHARS_PER_TOKEN * of_prompt
        most = self._settings.max_answer_tokens
        if amount > most:
            raise BadRequest(
                f"The request asks for {amount:,} tokens, log-probabilities counted; {most:,} is the most. "
                "Ask for fewer answers, shorter ones, or fewer log-probabilities.",
                code="answer_too_large",
                param="n" if context.question.sequences > 1 else "logprobs",
            )


def num_texts(value: Any) -> int:
    """How many texts a prompt or an input is: a list of token ids, or of messages, is one."""
    if type(value) is not list or not value:
        return 1
    return 1 if type(value[0]) in (int, dict) else len(value)


def _amount(value: Any) -> int:
    return int(value) if type(value) in (int, bool) and value > 0 else 0


def _read_stream_options(context: RequestContext, options: dict[str, bool]) -> None:
    if not context.question.stream:
        raise BadRequest("'stream_options' is only allowed when 'stream' is true.", param="stream_options")
    context.question.wants_usage = options.get("include_usage", False)
