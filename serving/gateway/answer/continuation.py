"""A stream that broke off goes on from another engine: what that one is asked, and how its events join the first ones.

Three ways, by what the client has seen:

- nothing but the role: the question is asked again;
- text, and the engine reported its tokens: prompt and tokens so far, as token ids, to `/v1/completions`;
- otherwise, or where the answer depends on something the second engine cannot know: not at all.

Choices of one answer (`n`) are continued one after the other.
"""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from typing import Any

from serving.gateway.answer.attempts import EngineQuestion
from serving.gateway.answer.joining import ContinuedChoice, RestartedAnswer
from serving.gateway.body import encode
from serving.gateway.context import RequestContext
from serving.gateway.engines.engine import Engine
from serving.gateway.fields.engine_body import engine_body
from serving.gateway.fields.lists import CHAT, COMPLETIONS, DETOKENIZE, FIELDS
from serving.gateway.steps.mark import engine_obstacle
from serving.gateway.steps.question_body import mark_arguments
from serving.gateway.streams.chunks import UNREADABLE, decode_any
from serving.gateway.streams.stop_strings import StopStringJoiner
from serving.gateway.streams.tokens import ChoiceProgress, TokenTap
from serving.http.client import UpstreamError

log = logging.getLogger(__name__)

# vLLM's own default for `/v1/completions`.
DEFAULT_COMPLETION_TOKENS = 16
MAX_LOGIT_BIAS = 100.0
MAX_TEXT_BYTES = 16 * 1024 * 1024
# Tokens at the end of a text that may together hold less than a character: UTF-8 has four bytes.
MAX_PARTIAL_TOKENS = 4
_INCOMPLETE = "\ufffd"
# 2**64 divided by the golden ratio: spreads what differs little (D. Knuth, TAOCP 3, 6.4).
_SPREAD = 0x9E3779B97F4A7C15
_NUM_SEEDS: int = 2**63

# What makes an answer depend on more than its tokens so far, or its events on more than its text.
_OBSTACLES = (
    ("use_beam_search", "beam search"),
    ("echo", "echo"),
    ("suffix", "a suffix"),
    ("prompt_embeds", "a prompt of embeddings"),
    ("prompt_logprobs", "log-probabilities"),
    ("structured_outputs", "structured output"),
    *((f"guided_{form}", "structured output") for form in ("json", "regex", "choice", "grammar")),
    ("presence_penalty", "a presence penalty"),
    ("bad_words", "bad words"),
    ("repetition_detection", "repetition detection"),
    ("thinking_token_budget", "a thinking budget"),
    ("kv_transfer_params", "transferred KV state"),
)
# What completions have too, and is used up or set anew. All else that they have is sampling settings, and stays.
_LEFT_OUT = frozenset(
    {
        *("prompt", "n", "best_of", "stream_options", "logprobs", "echo", "add_special_tokens", "response_format"),
        # Only there where an operator lets clients set them.
        *("truncate_prompt_tokens", "truncation_side", "media_io_kwargs", "mm_processor_kwargs"),
    }
)


class CannotContinue(Exception):
    """Why a stream ends in an error event; a few words for the log."""


def carries_mark(context: RequestContext, engine: Engine) -> bool:
    """Whether the engine can go on with the mark that the client has been told of."""
    return engine_obstacle(context, engine) is None


def can_take_over(context: RequestContext, engine: Engine) -> bool:
    """Whether an answer of which text was sent can go on there."""
    return carries_mark(context, engine) and engine.is_vllm(context.question.model)


def tap_for(context: RequestContext) -> TokenTap:
    """The tap that a streamed answer needs so that it can be continued."""
    body = context.question.body
    return TokenTap(
        context.question.choices,
        answers_each=body.get("n") or 1,
        hides=not body.get("return_token_ids"),
        keeps_text=bool(body.get("stop")),
    )


def obstacle(context: RequestContext, tap: TokenTap | None) -> str:
    """What keeps this answer, as far as it has come, from being continued; "" when nothing does."""
    question = context.question
    if tap is None:
        return "continuation is off"
    if not _shown(tap):
        return ""
    if not context.endpoint.has_choices:
        return "another endpoint"
    if not all(progress.plain for progress in tap.choices.values()):
        return "a tool call or reasoning"
    if tap.blind or not all(_prompt_of(tap, index, question.body) for index in range(question.choices)):
        return "an engine that reports no tokens"
    return _obstacle_in(question.body)


def _obstacle_in(body: dict[str, Any]) -> str:
    """What was asked for that cannot be had from the middle of an answer on."""
    for field, words in _OBSTACLES:
        if body.get(field):
            return words
    # A whole number where text is completed: 0 asks for the chosen token's.
    if body.get("logprobs") is not None and body["logprobs"] is not False:
        return "log-probabilities"
    if body.get("tools") and body.get("tool_choice") != "none":
        return "tools"
    if (body.get("response_format") or {}).get("type", "text") != "text":
        return "structured output"
    if body.get("frequency_penalty") and body.get("repetition_penalty") not in (None, 1):
        return "two penalties at once"
    if any(_has_media(message) for message in body.get("messages") or ()):
        return "images or sound in the question"
    return ""


class Restart:
    """Nothing of the answer was shown: the question is asked again, and the role not told a second time."""

    def __init__(self, context: RequestContext, tap: TokenTap, question: EngineQuestion) -> None:
        for progress in tap.choices.values():
            progress.rewind(0)
        self.question = EngineQuestion(
            question.target, question.body, may_go_to=lambda engine: carries_mark(context, engine)
        )
        self.answer = RestartedAnswer(tap.first)


class ChoiceContinuation:
    """One choice, continued from its tokens."""

    def __init__(self, context: RequestContext, tap: TokenTap, index: int) -> None:
        self._context = context
        self._index = index
        self._progress = tap.choices.setdefault(index, ChoiceProgress())
        self._progress.prompt = _prompt_of(tap, index, context.question.body)
        self._prompt = self._progress.prompt_ids
        self._stops = _stops(context.question.body)
        self.question = EngineQuestion(
            COMPLETIONS.encode(), self._body, self._prepare, lambda engine: can_take_over(context, engine)
        )
        self.answer = ContinuedChoice(tap.first, index, context.endpoint.name)

    async def _prepare(self, engine: Engine) -> None:
        """Settle which tokens are kept: those whose text has come, so that the second engine begins with a whole one.

        An engine's event with one token and text says so by itself. After several tokens at once, or where the
        engine held text back for a stop string, the text of the tokens is asked for.
        """
        progress = self._progress
        held = ""
        if self._stops and progress.ids:
            text = await self._settle(engine, len(progress.ids), MAX_PARTIAL_TOKENS)
            held = self._held_back(text)
        elif progress.in_last > 1:
            await self._settle(engine, progress.shown, progress.in_last - 1)
        else:
            progress.rewind(progress.shown)
        self.answer.begin(self._stop_string_joiner(held), partial(self._drop_behind, engine, len(progress.ids)))

    async def _settle(self, engine: Engine, num_ids: int, give_up_after: int) -> str:
        for kept in range(num_ids, max(-1, num_ids - give_up_after - 1), -1):
            text = await self._text_of(engine, self._progress.ids[:kept].tolist())
            if not text.endswith(_INCOMPLETE):
                self._progress.rewind(kept)
                return text
        raise CannotContinue("no token with a whole text")

    async def _drop_behind(self, engine: Engine, kept: int, stop: str) -> None:
        """Forget the tokens behind a stop string that ends in those after the first `kept`.

        The engine knew nothing of its beginning: it went on, and held text back that might begin another.
        """
        progress, fewest, most = self._progress, kept, len(self._progress.ids)
        ids = progress.ids.tolist()
        try:
            # It begins in front of the cut, and not far: what looks like it before may stand there, by `min_tokens`.
            start = max(0, len(await self._text_of(engine, ids[:kept])) - len(stop) + 1)
            while fewest < most:
                middle = (fewest + most) // 2
                if (await self._text_of(engine, ids[:middle])).find(stop, start) >= 0:
                    most = middle
                else:
                    fewest = middle + 1
        except (CannotContinue, UpstreamError) as error:
            log.warning("tokens behind a stop string are counted", extra={"reason": str(error)})
            return
        progress.rewind(most)

    async def _text_of(self, engine: Engine, ids: list[int]) -> str:
        if not ids:
            return ""
        body = engine_body(DETOKENIZE, {"model": self._context.question.model, "tokens": ids}, engine, "")
        reply = await engine.ask(DETOKENIZE.encode(), body, MAX_TEXT_BYTES)
        if reply.status != 200:
            raise CannotContinue("an engine that does not detokenize")
        try:
            return str(decode_any(reply.body)["prompt"])
        except (*UNREADABLE, KeyError, TypeError):
            raise CannotContinue("an engine that does not detokenize") from None

    def _held_back(self, text: str) -> str:
        """What belongs behind the text that was sent; `text` is that of all tokens."""
        sent = "".join(self._progress.texts)
        # Some tokenizers drop a space in front when they see an answer without its question.
        for whole in (text, f" {text}"):
            if whole.startswith(sent):
                return whole[len(sent) :]
        raise CannotContinue("tokens whose text is another one")

    def _stop_string_joiner(self, held: str) -> StopStringJoiner | None:
        if not self._stops:
            return None
        body = self._context.question.body
        # vLLM looks for stop strings only behind the tokens that have to be there.
        stops = self._stops if len(self._progress.ids) >= (body.get("min_tokens") or 0) else []
        return StopStringJoiner(
            stops, "".join(self._progress.texts), held, bool(body.get("include_stop_str_in_output"))
        )

    def _body(self, engine: Engine) -> bytes:
        context, ids = self._context, self._progress.ids
        body = {name: value for name, value in context.question.body.items() if _goes_along(name)}
        body |= {
            "prompt": [*self._prompt, *ids],
            "max_tokens": self._tokens_left(engine),
            "stream": True,
            "return_token_ids": True,
        }
        if least := body.get("min_tokens"):
            body["min_tokens"] = max(0, least - len(ids))
        if isinstance(seed := body.get("seed"), int):
            body["seed"] = continued_seed(seed + self._index, len(ids))
        if penalty := body.pop("frequency_penalty", None):
            body["frequency_penalty"] = penalty
            body["logit_bias"] = _with_frequencies(body.get("logit_bias") or {}, penalty, ids.tolist())
        mark = mark_arguments(context)
        if mark:
            mark["signet_answer_start"] = len(self._prompt)
        return engine_body(COMPLETIONS, body, engine, context.question.cache_salt, mark)

    def _tokens_left(self, engine: Engine) -> int:
        context, sent = self._context, len(self._progress.ids)
        body = context.question.body
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        if limit is None and context.endpoint.name == "completions":
            limit = DEFAULT_COMPLETION_TOKENS
        window = (engine.cards.get(context.question.model) or {}).get("max_model_len")
        bounds: list[int] = [limit] if limit is not None else []
        bounds += [window - len(self._prompt)] if isinstance(window, int) else []
        if not bounds:
            raise CannotContinue("an answer whose greatest length is not known")
        return max(1, min(bounds) - sent)


def continued_seed(seed: int, sent: int) -> int:
    """A seed that depends on the client's and on where the answer was cut, in vLLM's range.

    The same seed would draw for the tokens to come what it drew for those sent, which repeats itself in the text.
    """
    return (seed ^ (_SPREAD * (sent + 1))) % _NUM_SEEDS


def usage_event(first: bytes, prompt_tokens: int, completion_tokens: int) -> bytes:
    """The event that tells the usage, in the shape of the answer's `first` event."""
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    event = decode_any(first.removeprefix(b"data:"))
    named = {name: event[name] for name in ("id", "object", "created", "model") if name in event}
    return b"data: " + encode({**named, "choices": [], "usage": usage})


def next_part(context: RequestContext, tap: TokenTap | None, question: EngineQuestion) -> Restart | ChoiceContinuation:
    """What to ask next for an answer that is not complete.

    Raises:
        CannotContinue: with the reason.
    """
    reason = obstacle(context, tap)
    if reason or tap is None:
        raise CannotContinue(reason)
    if not _shown(tap):
        return Restart(context, tap, question)
    unfinished = [i for i in range(context.question.choices) if i not in tap.choices or not tap.choices[i].finished]
    return ChoiceContinuation(context, tap, unfinished[0])


def _shown(tap: TokenTap) -> bool:
    return any(progress.has_text or progress.finished for progress in tap.choices.values())


def _prompt_of(tap: TokenTap, index: int, body: dict[str, Any]) -> bytes:
    """The prompt of a choice: its own, or that of another choice of the same question."""
    answers_each = body.get("n") or 1
    first = index - index % answers_each
    known = (tap.choices[number].prompt for number in range(first, first + answers_each) if number in tap.choices)
    return next((prompt for prompt in known if prompt), b"")


def _goes_along(name: str) -> bool:
    """Whether a chat's or completion's field means the same in `/v1/completions`; those an operator added may."""
    return name not in _LEFT_OUT and (name in FIELDS[COMPLETIONS] or name not in FIELDS[CHAT])


def _stops(body: dict[str, Any]) -> list[str]:
    stop = body.get("stop") or []
    return [stop] if isinstance(stop, str) else [text for text in stop if text]


def _with_frequencies(bias: dict[str, float], penalty: float, sent: list[int]) -> dict[str, float]:
    """The penalty for tokens sent, as a bias: it is additive, and the engine adds that for the tokens to come."""
    summed = dict(bias)
    for token, count in Counter(sent).items():
        value = summed.get(str(token), 0.0) - penalty * count
        summed[str(token)] = max(-MAX_LOGIT_BIAS, min(MAX_LOGIT_BIAS, value))
    return summed


def _has_media(message: Any) -> bool:
    content = message.get("content") if isinstance(message, dict) else None
    parts = content if isinstance(content, list) else ()
    return any(isinstance(part, dict) and part.get("type", "text") != "text" for part in parts)
