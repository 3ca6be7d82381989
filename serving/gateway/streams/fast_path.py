"""The fast path: events of the usual shape, passed on as they came once the guard has released their text."""

from __future__ import annotations

from collections.abc import Mapping

from serving.gateway.streams.choice import ChoiceRelay
from serving.gateway.streams.chunks import UNREADABLE, UsualChoice, UsualEvent, decode_usual, require_utf8, texts_of
from serving.gateway.streams.duplicate_keys import frame_of, repeats_keys
from serving.gateway.streams.texts import are_identifiers, is_identifier


class FastPath:
    """Reads the events of one answer. `choices` are those that have begun, as the relay keeps them."""

    def __init__(self, num_choices: int, choices: Mapping[int, ChoiceRelay]) -> None:
        self._num_choices = num_choices
        self._choices = choices
        self._frame: tuple[str | None, ...] = ()

    def read(self, data: bytes) -> UsualEvent | None:
        """The event, if it has the usual shape and may go on as it is, once its text is clear."""
        if self._num_choices == 1 and (only := self._choices.get(0)) is not None and not only.is_plain:
            return None
        try:
            require_utf8(data)
            event = decode_usual(data)
        except UNREADABLE:
            return None
        frame = (event.id, event.object, event.model, event.system_fingerprint, event.service_tier)
        if frame != self._frame and not are_identifiers(frame):
            return None
        self._frame = frame
        # It brings the usage or a piece of a choice, not both.
        if b"\n" in data or len(event.choices) != (event.usage is None):
            return None
        if not event.choices:
            return None if repeats_keys(data) else event
        [choice] = event.choices
        delta, state = choice.delta, self._choices.get(choice.index)
        role, calls = (None, None) if delta is None else (delta.role, delta.tool_calls)
        if role is not None and role != "assistant" and not is_identifier("role", role):
            return None
        if state is None:
            return event if calls is None and choice.index >= 0 and not repeats_keys(data) else None
        if calls and (len(calls) > 1 or not state.calls.is_plain(calls[0].index)):
            return None
        if not state.is_plain:
            return None
        if state.frame is not None:
            start, end, num_quotes = state.frame
            if data.startswith(start) and data.endswith(end) and data.count(b'"') == num_quotes:
                return event
        return None if self._repeats_keys(choice, state, data) else event

    def _repeats_keys(self, choice: UsualChoice, state: ChoiceRelay, data: bytes) -> bool:
        """Whether the event holds a key twice; if not, others like it are known by their bytes."""
        if repeats_keys(data):
            return True
        texts = texts_of(choice)
        if len(texts) == 1:
            state.frame = frame_of(data, texts[0][1]) or state.frame
        return False
