"""What of a streamed answer has come so far, as the engine counts it: prompt and tokens, read from its events' bytes.

vLLM adds both to its events when asked with `return_token_ids`. They are taken out again before the client sees the
events, unless it asked for them itself, so that an event then has the bytes it would have had without.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence

from serving.gateway.streams.chunks import Channel

# Neither can stand inside a JSON string, where a quotation mark is escaped. vLLM writes JSON without spaces; what an
# engine writes otherwise is not found here.
TOKENS = b',"token_ids":['
_PROMPT = b',"prompt_token_ids":['
_EMPTY_DELTA = b'"delta":{}'
_BEFORE_TOKENS = len(TOKENS)
_PLAIN = ("content", "text")
_END_OF_IDS = 2**32
_MAX_DIGITS = 10


class ChoiceProgress:
    """How far one choice has come.

    `ids`: its tokens so far. `shown`: how many of them had come when text came last; those after it had none that
    could be shown, such as the first half of a character. `in_last`: how many came in that same event.
    """

    __slots__ = ("finished", "has_text", "ids", "in_last", "plain", "prompt", "shown", "texts")

    def __init__(self) -> None:
        self.prompt = b""
        self.ids = array("I")
        self.shown = 0
        self.in_last = 0
        self.has_text = False
        self.texts: list[str] = []
        self.plain = True
        self.finished = False

    @property
    def prompt_ids(self) -> list[int]:
        """The tokens of the question, as the engine reported them."""
        ids: list[int] = json.loads(b"[%b]" % self.prompt)
        return ids

    def rewind(self, num_ids: int) -> None:
        """Forget the tokens after the first `num_ids`: another engine will make them again."""
        del self.ids[num_ids:]


class TokenTap:
    """Reads the tokens of one streamed answer from its events, and hides them where the client did not ask.

    Args:
        num_choices: choices that the answer has, over all prompts of a batch.
        answers_each: choices for each prompt.
        hides: whether the client is not to see the tokens.
        keeps_text: whether the text is kept too, which stop strings make necessary.
    """

    def __init__(self, num_choices: int, *, answers_each: int, hides: bool, keeps_text: bool) -> None:
        self.choices: dict[int, ChoiceProgress] = {}
        self.first = b""
        self.blind = False
        self._answers_each = answers_each
        self.hides = hides
        self._keeps_text = keeps_text
        self._prompts_due = num_choices
        self._prompt = self._last_prompt = b""
        self._found = b""

    def take(self, event: bytes) -> bytes:
        """Note the tokens that an event brings; returns it as the client may see it."""
        if self._prompts_due > 0:
            event = self._take_prompt(event)
        start = event.rfind(TOKENS)  # vLLM writes them last
        if start < 0 or event.find(TOKENS) != start:
            return event  # written in another way, or those of several choices: read with everything else
        end = event.find(b"]", start)
        self._found = event[start + _BEFORE_TOKENS : end]
        if not self.hides:
            return event
        return b"%bnull%b" % (event[: start + _BEFORE_TOKENS - 1], event[end + 1 :])

    def note(
        self, index: int, texts: list[tuple[Channel, str]], finished: bool, decoded: Sequence[object] | None = None
    ) -> None:
        """The event taken last belongs to choice `index` and carries these texts.

        `decoded`: its tokens, where they were not found in the event's bytes.
        """
        progress = self.choices.get(index)
        if progress is None:
            progress = self.choices[index] = ChoiceProgress()
        if self._prompt:
            progress.prompt, self._prompt = self._prompt, b""
        ids, found = progress.ids, self._found
        num_new = 0
        if decoded:
            found = self._found = b""
            num_new = self._extend(ids, decoded)
        if found:
            self._found = b""
            if found.isdigit() and len(found) < _MAX_DIGITS:
                ids.append(int(found))
                num_new = 1
            else:
                num_new = self._extend(ids, [int(digits) if digits.isdigit() else None for digits in found.split(b",")])
        if texts:
            progress.shown = len(ids)
            progress.in_last = num_new
            progress.has_text = True
            if texts[0][0][0] not in _PLAIN or len(texts) > 1 or self._keeps_text or not num_new:
                self._note_texts(progress, texts, num_new)
        if finished:
            progress.finished = True

    def note_prompt(self, ids: Sequence[object]) -> None:
        """The tokens of a prompt, where they were not found in the event's bytes."""
        known = [token_id for token_id in ids if isinstance(token_id, int)]
        if not self._prompt and len(known) == len(ids):
            self._prompt = self._last_prompt = b",".join(b"%d" % token_id for token_id in known)
            self._prompts_due -= 1

    def note_plain(self, index: int, tokens: list[int], texts: list[str]) -> None:
        """Events of choice `index` were read without `take`: each had one plain text and its token."""
        progress = self.choices[index]
        progress.ids.extend(tokens)
        progress.shown = len(progress.ids)
        progress.in_last = 1
        if self._keeps_text:
            progress.texts += texts

    def is_filler(self, event: bytes) -> bool:
        """Whether an event without text is only there because tokens were asked for."""
        return self.hides and _EMPTY_DELTA in event

    def cut(self) -> None:
        """The engine's bytes have ended, perhaps in the middle of an event."""
        self._found = self._prompt = b""
        if not self.choices:
            self.first = b""

    @property
    def knows_prompts(self) -> bool:
        """Whether the prompts of all choices have come: later events bring none."""
        return self._prompts_due <= 0

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the question, or of all of a batch; those of a question with several answers count once."""
        total = sum(progress.prompt.count(b",") + 1 for progress in self.choices.values() if progress.prompt)
        return -(-total // self._answers_each)

    @property
    def completion_tokens(self) -> int:
        """Tokens of the answer so far, all choices together."""
        return sum(len(progress.ids) for progress in self.choices.values())

    def _extend(self, ids: array[int], new: Sequence[object]) -> int:
        """Add tokens; what is none leaves the reader blind, as it does not know the answer any more."""
        known = [token_id for token_id in new if isinstance(token_id, int) and 0 <= token_id < _END_OF_IDS]
        self.blind = self.blind or len(known) != len(new)
        ids.extend(known)
        return len(known)

    def _take_prompt(self, event: bytes) -> bytes:
        if not self.first:
            self.first = event
        start = event.find(_PROMPT)
        if start < 0:
            return event
        start += len(_PROMPT)
        end = event.find(b"]", start)
        prompt = event[start:end]
        # The choices of one question share their prompt: kept once.
        self._prompt = self._last_prompt = self._last_prompt if prompt == self._last_prompt else prompt
        self._prompts_due -= 1
        return event[: start - 1] + b"null" + event[end + 1 :] if self.hides else event

    def _note_texts(self, progress: ChoiceProgress, texts: list[tuple[Channel, str]], num_new: int) -> None:
        """What is not the usual event of one plain text and its token."""
        for (field, _), text in texts:
            if field not in _PLAIN:
                progress.plain = False
            elif self._keeps_text:
                progress.texts.append(text)
        if not num_new:
            self.blind = True
