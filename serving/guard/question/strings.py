"""Cleans the strings of one request, wherever they stand, and counts what was done."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from serving.guard.detector import Detector, Span
from serving.guard.outcome import Action, GuardReport
from serving.guard.question.control import ControlTokens
from serving.guard.question.encoded import EncodedText
from serving.guard.question.limits import Limits
from serving.guard.question.memory import Memory
from serving.guard.text.escapes import PlainEscapes
from serving.guard.text.folding import fold
from serving.guard.text.stream import StreamCleaner, is_plain
from serving.guard.text.visible import HIDDEN_WORD, VisibleText, mask_hidden

PLAIN_NAMES = frozenset(
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

_LEAST_NUMBER = 10_000
_MAX_ROUNDS = 8
"""Readings of one JSON text. The second finds nothing new in nearly all, the third in all but made-up ones."""


@dataclass(frozen=True, slots=True)
class InputRules:
    """What is done to every request of one guard."""

    tokens: ControlTokens
    detectors: Sequence[Detector]
    actions: Mapping[str, Action]
    """What is done with what each detector finds."""
    noted: Sequence[Detector]
    """Their values are remembered, so that an answer may repeat them."""
    encoded: EncodedText | None
    """None: encoded text is not looked into."""
    masks_hidden: bool
    """Whether words in pieces are masked."""


class Cleaning:
    """Cleans the strings of one request and counts."""

    def __init__(self, rules: InputRules, memory: Memory | None, limits: Limits) -> None:
        """`limits`: what of the request was counted before; JSON in its strings counts too."""
        self._rules = rules
        self._limits = limits
        self._tokens = rules.tokens
        self._vault = memory.vault if memory is not None else None
        self._seen = memory.seen if memory is not None else None
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

    def json_text(self, text: str) -> str:
        """JSON in a string, as in a tool call's arguments: the engine parses it, so it is cleaned parsed.

        Until nothing changes: what is no JSON may become some when what no reader sees is taken out of it. Stays as it
        is, to the byte, when there is nothing to clean.
        """
        for _ in range(_MAX_ROUNDS):
            cleaned = self._json_text_once(text)
            if cleaned == text:
                return text
            text = cleaned
        # It changes with each reading, which no honest text does: as a string it can be read in one way only.
        return json.dumps(text, ensure_ascii=False)

    def _json_text_once(self, text: str) -> str:
        try:
            data, doubled = _parse(text)
        except (ValueError, RecursionError):
            # Another reader may be more lenient, and unescape what this one does not take for JSON.
            escapes = PlainEscapes()
            plain = escapes.feed(text) + escapes.finish()
            cleaned_text = self._text(plain, masks=True, inert=True)
            return text if cleaned_text == plain else cleaned_text
        self._limits.take_json(data)
        cleaned = self.data(data)
        # The escapes that JSON needs hide nothing from the model: it is shown the parsed strings.
        return text if cleaned == data and not doubled else json.dumps(cleaned, ensure_ascii=False)

    def seams(self, texts: list[str]) -> list[str]:
        """Texts that may be joined: no control token is in one of them or across two, nor a value across two."""
        if len(texts) < 2:
            return texts
        return self._inert_parts(self._mask_across(texts))

    def inert_seams(self, texts: list[str]) -> list[str]:
        """Clean texts that may be joined: no control token is across two."""
        return self._inert_parts(texts) if self._tokens.meet(texts) else texts

    def _inert_parts(self, texts: list[str]) -> list[str]:
        texts, count = self._tokens.inert_parts(texts)
        self.report.add("control_token", "inert", count)
        return texts

    def _mask_across(self, texts: list[str]) -> list[str]:
        """Values that begin in one text and end in another: the first gets what stands for them."""
        joined = "".join(texts)
        ends = list(accumulate(map(len, texts)))
        across = [] if is_plain(joined) else self._values_across(joined, ends)
        if not across:
            return texts
        cleaned: list[str] = []
        number = done = 0  # the value that comes next, and the end of the one before
        for start, end in pairwise([0, *ends]):
            done = max(done, start)
            pieces: list[str] = []
            while number < len(across) and across[number][1].start < end:
                entity, span = across[number]
                pieces += (joined[done : span.start], self._stand_in(entity, joined[span.start : span.end]))
                done = span.end
                number += 1
            pieces.append(joined[done:end])
            cleaned.append("".join(pieces))
        return cleaned

    def _values_across(self, joined: str, ends: list[int]) -> list[tuple[str, Span]]:
        folded = fold(joined)
        values = [
            (detector.entity, span) for detector in self._rules.detectors for span in detector.scan(folded, 0, True)[0]
        ]
        across: list[tuple[str, Span]] = []
        for entity, span in sorted(values, key=lambda value: value[1].start):
            is_across = ends[bisect_right(ends, span.start)] < span.end
            if is_across and (not across or span.start >= across[-1][1].end):
                across.append((entity, span))
        return across

    def _stand_in(self, entity: str, value: str) -> str:
        action = self._rules.actions[entity]
        self.report.add(entity, action)
        return self._vault.placeholder(entity, value) if action == "pseudonymize" and self._vault else f"[{entity}]"

    def data(self, data: Any, key: str = "") -> Any:
        """Parsed JSON that stands under `key`; a number that is to be masked becomes a string."""
        if isinstance(data, list):
            return [self.data(item) for item in data]
        if isinstance(data, dict):
            return self._renamed(data, True, lambda name, item: self.data(item, name))
        if isinstance(data, int) and not isinstance(data, bool):
            # Without a name so few digits are no value: long lists of numbers are mostly these.
            return data if not key and abs(data) < _LEAST_NUMBER else self._number(data, key)
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
        return name if name in PLAIN_NAMES else self._text(name, masks=False, inert=inert)

    def _text(self, text: str, *, masks: bool, inert: bool) -> str:
        text = self._masked(text, inert=inert) if masks else self._visible(text)
        if inert:
            text, count = self._tokens.inert(text)
            self.report.add("control_token", "inert", count)
        return text

    def _visible(self, text: str) -> str:
        visible = VisibleText()
        text = visible.feed(text) + visible.finish()
        self.report.add("invisible", "strip", visible.num_removed)
        return text

    def _masked(self, text: str, *, inert: bool = True) -> str:
        if self._rules.masks_hidden:
            text, count = mask_hidden(text)
            self.report.add(HIDDEN_WORD, "mask", count)
        if self._seen is not None:
            self._note(text)
        cleaner = StreamCleaner(self._rules.detectors, self._rules.actions, vault=self._vault)
        text = cleaner.whole(text)
        self.report.merge(cleaner.report)
        encoded = self._rules.encoded
        if encoded is None or is_plain(text):
            return text
        return encoded.clean(text, self.report, self._vault, inert=inert)

    def _note(self, text: str) -> None:
        """Remember the values of a text as its reader sees it."""
        visible = VisibleText()
        text = visible.feed(text) + visible.finish()
        folded = fold(text)
        for detector in self._rules.noted:
            for span in detector.scan(folded, 0, True)[0]:
                if self._seen is not None:
                    self._seen.add(text[span.start : span.end])


def _parse(text: str) -> tuple[Any, bool]:
    """Parsed JSON, and whether an object has one key twice: only the last of them would have been cleaned."""
    doubled = False

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal doubled
        collected = dict(pairs)
        doubled = doubled or len(collected) < len(pairs)
        return collected

    return json.loads(text, object_pairs_hook=collect), doubled
