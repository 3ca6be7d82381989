"""vLLM's renderer for Hugging Face tokenizers, and a look at what it rendered before anything is computed of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter
from vllm.exceptions import VLLMValidationError
from vllm.renderers.hf import (
    HfRenderer,
    replace_vision_chunk_video_placeholder,
    resolve_chat_template,
    safe_apply_chat_template,
)
from vllm.utils.async_utils import make_async

from serving.engine.rendering.check import PromptCheck, texts_of
from serving.guard.question.control import MADE
from serving.guard.question.served_tokens import is_structure

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.renderers.params import ChatParams

log = logging.getLogger(__name__)

REFUSED = Counter(
    "signet_engine_prompts_refused",
    "Questions refused because the chat template made a control token of a client's words.",
)
CONFIG_SECTION = "signet"
MESSAGE = f"{MADE}: the model's chat template would make a control token of words in this request; write them otherwise"
_MEDIA = ("multi_modal_data", "prompt_embeds", "_prompt_embeds")


class CheckedRenderer(HfRenderer):  # type: ignore[misc]
    """Renders as vLLM does, and refuses chats whose template makes a control token of a client's words.

    vLLM turns the refusal into HTTP 400. Engines that were told nothing of Signet render unchecked, as they are in no
    way ours.
    """

    def __init__(self, config: VllmConfig, tokenizer: Any) -> None:
        super().__init__(config, tokenizer)
        additional = config.additional_config
        is_ours = isinstance(additional, dict) and CONFIG_SECTION in additional
        self._prompt_check = _check_for(self.tokenizer) if is_ours and self.tokenizer is not None else None
        self._check_async = make_async(self._check, executor=self._executor)

    def render_messages(self, messages: list[Any], params: ChatParams) -> tuple[list[Any], Any]:
        """Raises VLLMValidationError with the code `control_token_made`."""
        conversation, prompt = super().render_messages(messages, params)
        self._check(messages, params, conversation, prompt)
        return conversation, prompt

    async def render_messages_async(self, messages: list[Any], params: ChatParams) -> tuple[list[Any], Any]:
        """As `render_messages`, in vLLM's threads for rendering, and within its time for one."""
        conversation, prompt = await super().render_messages_async(messages, params)
        if self._prompt_check is not None:
            await self._render_with_timeout(self._check_async(messages, params, conversation, prompt))
        return conversation, prompt

    def _check(self, messages: list[Any], params: ChatParams, conversation: list[Any], prompt: Any) -> None:
        if self._prompt_check is None:
            return
        variables = params.get_apply_chat_template_kwargs()
        template = resolve_chat_template(
            self.tokenizer, variables.get("chat_template"), variables.get("tools"), model_config=self.model_config
        )
        rendered = prompt.get("prompt")
        if rendered is None:
            rendered = self.tokenizer.decode(prompt["prompt_token_ids"])
        media = prompt.get("multi_modal_data")

        def render(copy: list[Any], others: dict[str, Any]) -> str:
            text = safe_apply_chat_template(self.model_config, self.tokenizer, copy, **(others | {"tokenize": False}))
            if self.use_unified_vision_chunk and media is not None:
                place = getattr(self.model_config.hf_config, "video_placeholder", None)
                text = replace_vision_chunk_video_placeholder(text, media, place)
            return str(text)

        written = None
        if any(name in prompt for name in _MEDIA):
            written = [text for message in messages for text in texts_of(message.get("content"))]
        try:
            is_made = self._prompt_check.is_made(rendered, template, conversation, variables, render, written)
        except Exception as error:  # a template that cannot take stand-ins serves all the same
            log.warning("A prompt could not be checked for control tokens: %s", type(error).__name__)
            return
        if is_made:
            REFUSED.inc()
            log.warning("Refused a question: the chat template made a control token of its words.")
            raise VLLMValidationError(MESSAGE)


def _check_for(tokenizer: Any) -> PromptCheck:
    """The control tokens of a tokenizer: those marked special, and added ones that look like structure."""
    added = tokenizer.added_tokens_decoder.values()
    special = [token.content for token in added if token.special]
    return PromptCheck([*special, *(token.content for token in added if is_structure(token.content))], special)
