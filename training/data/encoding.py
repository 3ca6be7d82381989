"""From chats to token ids, with labels on what the assistant says and nowhere else.

The text is what the model's own chat template makes of the chat, tokenized in one piece, so that training
sees the tokens that serving will. Which of its characters the assistant says follows from the template too:
they lie between the prompt for an answer and the end of that answer, for each answer in turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.data.chats import Chat
from training.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

IGNORED = -100
"""The label of a token that has none; PyTorch's cross-entropy skips it by default."""

Span = tuple[int, int]

_PROBE = "What else?"


@dataclass(frozen=True, slots=True)
class Example:
    """One encoded chat; `input_ids` and `labels` have the same length."""

    input_ids: list[int]
    labels: list[int]
    """The token itself where the assistant says it, else IGNORED. Unshifted, as transformers takes them."""
    source: str

    @property
    def num_targets(self) -> int:
        """Tokens that are predicted: labelled ones other than the first, which nothing comes before."""
        return sum(label != IGNORED for label in self.labels[1:])


class ChatEncoder:
    """Encodes chats for one model. Needs a fast tokenizer: only those tell which characters made a token."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._control_tokens = frozenset([*tokenizer.all_special_tokens, *added])
        longest_first = sorted(self._control_tokens, key=len, reverse=True)
        self._control_pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def encode(self, chat: Chat) -> Example:
        """Encode one chat, cut to `max_tokens`; raises DataError naming its line."""
        return self.encode_with_places(chat)[0]

    def encode_with_places(self, chat: Chat) -> tuple[Example, str, list[Span]]:
        """As `encode`, with the whole text and where in it each token stands."""
        self._refuse_control_tokens(chat)
        text, spans = self._answer_spans(chat)
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = encoded["input_ids"][: self._max_tokens]
        places: list[Span] = encoded["offset_mapping"][: self._max_tokens]
        return Example(ids, _label(ids, places, spans), chat.source), text, places

    def _refuse_control_tokens(self, chat: Chat) -> None:
        """Text that forges the end of a turn would teach the model to obey such text."""
        for message in chat.messages:
            # As written, and as the template gets it: escapes in a call's arguments are undone there.
            said = f"{message.model_dump()}{message.template_message()}"
            for token in self._control_tokens:
                if token in said:
                    raise DataError(f"{chat.source}: the {message.role} says the control token {token}")

    def _answer_spans(self, chat: Chat) -> tuple[str, list[Span]]:
        """The chat as text, and where in it each answer lies, its closing token included."""
        messages = chat.template_messages()
        text = self._render(chat, messages)
        spans = []
        for index in range(len(messages)):
            if not chat.messages[index].is_learned:
                continue
            before = self._render(chat, messages[:index], add_generation_prompt=True)
            after = self._answered(chat, messages[: index + 1], before)
            if after == before and (chat.messages[index].content or "").strip():
                raise DataError(f"{chat.source}: the model's chat template leaves out what the assistant says")
            closing = self._missing_closing(chat, messages[: index + 1], after)
            if closing and index == len(messages) - 1:
                text = after + closing
            if text.startswith(after + closing):
                after += closing
            if not (text.startswith(after) and after.startswith(before)):
                raise DataError(
                    f"{chat.source}: the model's chat template changes earlier turns when later ones follow: "
                    "give each answer a line of its own, as the last message"
                )
            spans.append((len(before), len(after)))
        return text, spans

    def _answered(self, chat: Chat, messages: Sequence[dict[str, Any]], before: str) -> str:
        """The text up to the end of the last answer, without what the template writes for the next turn."""
        # Templates end a turn with a newline that the model never writes: it stops at its closing token.
        after = self._render(chat, messages).rstrip("\n")
        if after != self._render(chat, messages, add_generation_prompt=True).rstrip("\n"):
            return after
        # This template asks for an answer whether it is told to or not. What both texts end with is the closing token
        # and the prompt; a single token there is the prompt's.
        controls = [*self._control_pattern.finditer(after, len(after) - _common_ending(before.rstrip("\n"), after))]
        if not controls or not self._render(chat, messages[:-1]).endswith(before):
            return after
        return after[: controls[0].end()] if len(controls) > 1 else after[: controls[0].start()]

    def _missing_closing(self, chat: Chat, messages: Sequence[dict[str, Any]], after: str) -> str:
        """The token that ends the last answer, where the template leaves it out: without it, a model never stops.

        Some templates write it only once another turn follows, some never.
        """
        ends = [match.end() for match in self._control_pattern.finditer(after)]
        if ends and ends[-1] == len(after.rstrip()):
            return ""
        try:
            followed = self._render(chat, [*messages, {"role": "user", "content": _PROBE}])
        except DataError:  # such a turn may not follow
            followed = ""
        between = followed.removeprefix(after).partition(_PROBE)[0] if followed.startswith(after) else ""
        tokens = self._control_pattern.findall(between)
        eos = str(self._tokenizer.eos_token or "")
        # Of one token alone it is not known whether it ends this turn or begins the next.
        return tokens[0] if between.startswith(tuple(tokens[:1])) and (len(tokens) > 1 or tokens[:1] == [eos]) else eos

    def _render(self, chat: Chat, messages: Sequence[dict[str, Any]], add_generation_prompt: bool = False) -> str:
        from jinja2 import TemplateError

        try:
            text: str = self._tokenizer.apply_chat_template(
                list(messages), tools=chat.template_tools(), tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except (TemplateError, TypeError) as error:
            raise DataError(f"{chat.source}: the model's chat template refuses this chat: {error}") from None
        return text


def _common_ending(first: str, other: str) -> int:
    """How many characters two texts have in common at their ends."""
    pairs = enumerate(zip(reversed(first), reversed(other), strict=False))
    return next((place for place, (one, two) in pairs if one != two), min(len(first), len(other)))


def encode_all(
    encoder: ChatEncoder, chats: Sequence[Chat], on_progress: Callable[[int, int], None] | None = None
) -> list[Example]:
    """Encode chats in order, without those whose answers all lie behind the cut; none left is a DataError."""
    examples = []
    for index, chat in enumerate(chats, start=1):
        example = encoder.encode(chat)
        if example.num_targets:
            examples.append(example)
        if on_progress is not None:
            on_progress(index, len(chats))
    if not examples:
        raise DataError(f"{chats[0].source}: no answer begins within max_tokens: raise it")
    return examples


def _label(ids: Sequence[int], offsets: Sequence[Span], spans: Sequence[Span]) -> list[int]:
    """Label the tokens that begin inside a span. Both lists rise, so one pass suffices."""
    labels = [IGNORED] * len(ids)
    remaining = iter(spans)
    begin, end = next(remaining)
    for position, (start, _) in enumerate(offsets[: len(ids)]):
        while start >= end:
            following = next(remaining, None)
            if following is None:
                return labels
            begin, end = following
        if start >= begin:
            labels[position] = ids[position]
    return labels
