"""Which fields each endpoint takes, and of what kind their values are.

OpenAI's and Anthropic's fields as their clients have them, and vLLM's documented sampling parameters. Bounds are such
that no honest request meets them; the engine has narrower ones of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from serving.gateway.fields.kinds import (
    ANYTHING,
    BIASES,
    BOOLEAN,
    FLAGS,
    LIST,
    OBJECT,
    PROMPT,
    TEXT_OR_LIST,
    TEXT_OR_OBJECT,
    Kind,
    ids,
    number,
    one_of,
    text,
    texts,
    whole,
)

Fields = Mapping[str, Kind]

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
TOKENIZE = "/tokenize"
DETOKENIZE = "/detokenize"

# Tokens: more than any model's window, and far from where arithmetic on them could overflow.
_TOKENS = whole(0, 2**31 - 1)
_INT64 = whole(-(2**63), 2**63 - 1)
_LABEL = text(1024)
_LONG = text(10_000_000)
_WORDS = text(100)
# An engine holds as much text back as the longest stop string, and looks for each in every step.
_STOPS = texts(64, 1024, alone=True)

_EVERYWHERE: Fields = {"model": _LABEL, "user": _LABEL}

_SAMPLING: Fields = {
    "temperature": number(0, 100),
    "top_p": number(0, 1),
    "top_k": whole(-1, 2**31 - 1),
    "min_p": number(0, 1),
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "repetition_penalty": number(0, 100),
    "seed": _INT64,
    "logit_bias": BIASES,
    "stop": _STOPS,
    "stop_token_ids": ids(1024),
    "include_stop_str_in_output": BOOLEAN,
    "ignore_eos": BOOLEAN,
    "skip_special_tokens": BOOLEAN,
    "structured_outputs": OBJECT,
}
"""What chats, completions and responses have in common."""

_VLLM: Fields = {
    "use_beam_search": BOOLEAN,
    "length_penalty": number(-100, 100),
    "min_tokens": _TOKENS,
    "allowed_token_ids": ids(65_536),
    "bad_words": texts(1024, 1024),
    "logprob_token_ids": ids(128),
    "prompt_logprobs": whole(0, 100),
    "spaces_between_special_tokens": BOOLEAN,
    "add_special_tokens": BOOLEAN,
    "return_token_ids": BOOLEAN,
    "return_tokens_as_token_ids": BOOLEAN,
    "repetition_detection": OBJECT,
    "thinking_token_budget": whole(-1, 2**31 - 1),
    "stream_interval": whole(1, 10_000),
    # vLLM's older names for `structured_outputs`.
    "guided_json": TEXT_OR_OBJECT,
    "guided_regex": _LONG,
    "guided_choice": texts(10_000, 10_000),
    "guided_grammar": _LONG,
}
"""vLLM's parameters of chats and completions."""

_ENGINE: Fields = {"cache_salt": _LABEL, "vllm_xargs": OBJECT}
"""Mixed, or looked into, by the gateway."""

_TEMPLATE: Fields = {"chat_template_kwargs": OBJECT}
_RENDERING: Fields = {**_TEMPLATE, "add_generation_prompt": BOOLEAN, "continue_final_message": BOOLEAN}

_STREAM: Fields = {"stream": BOOLEAN}
_BATCH: Fields = {**_STREAM, "stream_options": FLAGS, "n": whole(1, 2**31 - 1), "response_format": OBJECT}

_OPENAI: Fields = {
    "metadata": OBJECT,
    "service_tier": _WORDS,
    "store": BOOLEAN,
    "safety_identifier": _LABEL,
    "prompt_cache_key": _LABEL,
    "prompt_cache_retention": _WORDS,
    "prompt_cache_options": OBJECT,
    "parallel_tool_calls": BOOLEAN,
    "tools": LIST,
    "tool_choice": TEXT_OR_OBJECT,
    "moderation": ANYTHING,
}
"""OpenAI's fields that chats and responses share."""

_ANTHROPIC: Fields = {
    "model": _LABEL,
    "messages": LIST,
    "system": TEXT_OR_LIST,
    "thinking": OBJECT,
    "output_config": OBJECT,
    "tools": LIST,
    "tool_choice": OBJECT,
    "cache_control": OBJECT,
    **_TEMPLATE,
}

FIELDS: Mapping[str, Fields] = {
    CHAT: {
        **_EVERYWHERE, **_STREAM, **_BATCH, **_SAMPLING, **_VLLM, **_ENGINE, **_OPENAI, **_RENDERING,
        "messages": LIST,
        "max_tokens": _TOKENS,
        "max_completion_tokens": _TOKENS,
        "logprobs": BOOLEAN,
        "top_logprobs": whole(0, 100),
        "functions": LIST,
        "function_call": TEXT_OR_OBJECT,
        "reasoning_effort": _WORDS,
        "include_reasoning": BOOLEAN,
        "verbosity": _WORDS,
        "modalities": texts(8, 100),
        "audio": OBJECT,
        "prediction": OBJECT,
        "web_search_options": OBJECT,
        "documents": LIST,
        "echo": BOOLEAN,
        "return_prompt_text": BOOLEAN,
    },
    COMPLETIONS: {
        **_EVERYWHERE, **_BATCH, **_SAMPLING, **_VLLM, **_ENGINE,
        "prompt": PROMPT,
        "suffix": _LONG,
        "echo": BOOLEAN,
        "max_tokens": _TOKENS,
        "logprobs": whole(0, 100),
        "best_of": whole(1, 2**31 - 1),
    },
    RESPONSES: {
        **_EVERYWHERE, **_STREAM, **_SAMPLING, **_ENGINE, **_OPENAI, **_TEMPLATE,
        "stream_options": FLAGS,
        "input": TEXT_OR_LIST,
        "instructions": TEXT_OR_LIST,
        "max_output_tokens": _TOKENS,
        "max_tool_calls": _TOKENS,
        "top_logprobs": whole(0, 100),
        "text": OBJECT,
        "reasoning": OBJECT,
        "include_reasoning": BOOLEAN,
        "include": texts(64, 100),
        "truncation": one_of("auto", "disabled"),
        "background": BOOLEAN,
        "previous_response_id": _LABEL,
        "conversation": TEXT_OR_OBJECT,
        "enable_response_messages": BOOLEAN,
        "previous_input_messages": LIST,
    },
    MESSAGES: {
        **_ANTHROPIC, **_STREAM, **_ENGINE,
        "max_tokens": _TOKENS,
        "temperature": number(0, 100),
        "top_p": number(0, 1),
        "top_k": whole(-1, 2**31 - 1),
        "stop_sequences": texts(64, 1024),
        "metadata": OBJECT,
        "service_tier": _WORDS,
    },
    COUNT_TOKENS: {**_ANTHROPIC},
    EMBEDDINGS: {
        **_EVERYWHERE, **_RENDERING,
        "input": TEXT_OR_LIST,
        "messages": LIST,
        "encoding_format": _WORDS,
        "dimensions": whole(1, 1_000_000),
        "embed_dtype": _WORDS,
        "endianness": _WORDS,
        "use_activation": BOOLEAN,
        "add_special_tokens": BOOLEAN,
        "padding": _WORDS,
        "truncate_prompt_tokens": whole(-1, 2**31 - 1),
        "truncation_side": one_of("left", "right"),
        "cache_salt": _LABEL,
    },
    TOKENIZE: {
        **_RENDERING,
        "model": _LABEL,
        "prompt": _LONG,
        "messages": LIST,
        "tools": LIST,
        "add_special_tokens": BOOLEAN,
        "return_token_strs": BOOLEAN,
    },
    DETOKENIZE: {"model": _LABEL, "tokens": ids(10_000_000)},
}  # fmt: skip
"""By path."""

REFUSED: Mapping[str, str] = {
    "kv_transfer_params": "it names hosts from which the engine would take its cache",
    "ec_transfer_params": "it names hosts from which the engine would take its cache",
    "truncate_prompt_tokens": "it could cut a system prompt away",
    "truncation_side": "it could cut a system prompt away",
    "mm_processor_kwargs": "it changes how the engine reads media",
    "media_io_kwargs": "it changes how the engine reads media",
    "mm_payload": "it returns what the engine made of media",
    "return_mm_kwargs": "it returns what the engine made of media",
    "routed_experts_prompt_start": "it returns the engine's own state",
    "data_parallel_rank": "the gateway chooses the engine",
    "request_id": "the gateway names requests",
    "session_id": "the gateway chooses the engine; X-Session-Id keeps a conversation to one",
    "priority": "the key's priority holds",
    "prompt_embeds": "nothing can be cleaned in them; send text",
    "chat_template": "it could give a user's words any role",
    "chat_template_content_format": "it could give a user's words any role",
}
"""Fields that no request may set, and why: they steer the engine itself, or get round the guard."""

BESIDE_TEMPLATE: Mapping[str, str] = {
    **dict.fromkeys(("return_prompt_text", "prompt_logprobs", "return_token_ids", "echo"), "return the prompt"),
    "truncation": "cut the prompt",
}
"""Fields that a request for a prompt template may not set: what they could do to the template's own words."""

TEMPLATE_FIELDS = frozenset({"prompt", "variables"})
"""What a request for a prompt template says of it; no engine sees them."""

NEVER_ADDED = frozenset(
    {
        *("priority", "cache_salt", "request_id", "chat_template", "chat_template_content_format", "prompt_embeds"),
        *("previous_input_messages", "enable_response_messages", "stream", "model", "n", "vllm_xargs"),
    }
)
"""Fields that not even an operator can let clients set: the gateway itself, or its guard, depends on them."""
