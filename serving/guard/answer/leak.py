"""Answers that repeat the system prompt: by a word put into it that nobody can guess, or by its own words in a row.

A stage of an answer's way. Held back are only words in a row that stand so in the system prompt, and never more than
the setting allows to share.
"""

from __future__ import annotations

import re
from collections import deque

from serving.guard.outcome import GuardReport
from serving.guard.question.system_prompt import MAX_WORD, WORD, SystemPrompt, plain_word

_TOKEN = re.compile(rf"(?P<word>{WORD.pattern})|(?P<gap>\W+)")
_MAX_GAP = 200
"""Characters between two words that still stand in a row."""
MASK = "[SYSTEM_PROMPT]"


class LeakStage:
    """Looks for the system prompt in one text that comes in pieces."""

    __slots__ = (
        *("_after", "_gap", "_held", "_leaking", "_longest", "_masks", "_max_words", "_prompt", "_report", "_runs"),
        "_word",
    )

    def __init__(self, prompt: SystemPrompt, max_words: int, *, masks: bool, report: GuardReport) -> None:
        """`max_words`: 0 for any number."""
        self._prompt = prompt
        self._max_words = max_words
        self._masks = masks
        self._report = report
        self._word = ""  # a word that may go on
        self._held: deque[str] = deque()  # words that stand so in the prompt, each with what follows it
        self._runs: dict[int, int] = {}
        self._longest = 0
        self._gap = 0
        self._leaking = False
        self._after = ""  # follows what was swallowed last

    @property
    def held(self) -> int:
        return len(self._word) + len(self._after) + sum(map(len, self._held))

    @property
    def at_rest(self) -> bool:
        return False  # the prompt is ordinary words

    def feed(self, text: str) -> str:
        return self._read(text, final=False)

    def finish(self) -> str:
        return self._read("", final=True)

    def _read(self, text: str, *, final: bool) -> str:
        out: list[str] = []
        raw, self._word = self._word + text, ""
        for token in _TOKEN.finditer(raw):
            if token.lastgroup == "gap":
                self._pass_gap(token.group(), out)
            elif token.end() == len(raw) and len(token.group()) < MAX_WORD and not final:
                self._word = token.group()
            else:
                self._gap = 0
                self._take(token.group(), out)
        if final:
            self._flush(out)
        return "".join(out)

    def _pass_gap(self, gap: str, out: list[str]) -> None:
        self._gap += len(gap)
        if self._leaking:
            self._after += gap
        elif self._held:
            self._held[-1] += gap
        else:
            out.append(gap)
        if self._gap > _MAX_GAP:
            self._flush(out)

    def _take(self, word: str, out: list[str]) -> None:
        plain = plain_word(word)
        if plain == self._prompt.canary:
            self._flush(out)
            out.append(self._found(word))
            return
        if not self._max_words:
            out.append(word)
            return
        self._runs = self._prompt.follow(self._runs, plain)
        before, self._longest = self._longest, max(self._runs.values(), default=0)
        if self._leaking and self._longest > before:
            self._after = ""
            return
        if self._leaking:
            out.append(self._after)
            self._leaking, self._after = False, ""
        self._held.append(word)
        while len(self._held) > (self._longest if self._masks else 0):
            out.append(self._held.popleft())
        if self._longest > self._max_words and (self._masks or self._longest == self._max_words + 1):
            mask = self._found("")
            out.append(mask)
            self._held.clear()
            self._leaking = self._masks

    def _found(self, text: str) -> str:
        """What stands in the place of `text`, which is of the prompt."""
        self._report.add("system_prompt", "mask" if self._masks else "flag")
        return MASK if self._masks else text

    def _flush(self, out: list[str]) -> None:
        """No words in a row any more."""
        out += (*self._held, self._after)
        self._held.clear()
        self._runs, self._longest, self._gap = {}, 0, 0
        self._leaking, self._after = False, ""
