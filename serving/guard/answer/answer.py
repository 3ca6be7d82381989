"""How the texts of one answer are cleaned: a chain of stages, each of which takes text as it comes.

    \\u escapes (where the text is JSON) -> values masked -> markup inert -> system prompt -> values restored

Each stage gives the same for every cutting of its text, so the chain does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from serving.guard.answer.leak import LeakStage
from serving.guard.answer.markup import Markup
from serving.guard.answer.restore import Restorer
from serving.guard.answer.tags import Rules
from serving.guard.detector import Detector
from serving.guard.outcome import Action, GuardReport
from serving.guard.question.memory import Memory
from serving.guard.settings import SystemPromptSettings
from serving.guard.text.escapes import PlainEscapes
from serving.guard.text.stream import StreamCleaner, is_plain

MAX_PIECE = 16 * 1024
"""Characters of a whole text that are looked at together."""


class Stage(Protocol):
    """Takes one text in pieces; `"".join(feed(piece) …) + finish()` is the same for every cutting of it."""

    @property
    def held(self) -> int:
        """Characters held back that may yet be released as they are."""

    @property
    def at_rest(self) -> bool:
        """Whether ordinary words pass, whatever came before (see `PROSE`)."""

    def feed(self, text: str) -> str:
        """The text that may be released now."""

    def finish(self) -> str:
        """The rest; nothing follows."""


class TextStream(Stage, Protocol):
    """A stage that says what was done so far."""

    @property
    def report(self) -> GuardReport: ...


class Answers(Protocol):
    """Cleans the texts of an answer."""

    @property
    def blocks(self) -> bool:
        """Whether a value may end the answer; it is then in the reports as `block`."""

    @property
    def hides_prompt(self) -> bool:
        """Whether the prompt that the engine gets is not to be told: there is something in it that the client lacks."""

    def clean_text(self, text: str, *, json: bool = False) -> tuple[str, GuardReport]:
        """Clean a whole text; `json`: it is JSON, as the arguments of a tool call are."""

    def stream(self, *, json: bool = False) -> TextStream:
        """A cleaner for one text channel."""

    def free_text(self, *, shown: bool) -> Answers:
        """The same for texts that are no JSON, whatever form the answer has; `shown`: clients may render them."""


class Chain:
    """Stages one behind the other, for one text."""

    __slots__ = ("_stages", "report")

    def __init__(self, stages: Sequence[Stage], report: GuardReport) -> None:
        self._stages = stages
        self.report = report

    def __repr__(self) -> str:
        return f"Chain(held={self.held})"

    @property
    def held(self) -> int:
        held = 0
        for stage in self._stages:
            held += stage.held
        return held

    @property
    def at_rest(self) -> bool:
        return all(stage.at_rest for stage in self._stages)

    def feed(self, text: str) -> str:
        for stage in self._stages:
            text = stage.feed(text)
        return text

    def finish(self) -> str:
        text = ""
        for stage in self._stages:
            text = stage.feed(text) + stage.finish()
        return text


class AnswerCleaner:
    """Cleans the texts of one answer, or of all whose questions leave nothing to remember."""

    def __init__(
        self,
        detectors: Sequence[Detector],
        actions: Mapping[str, Action],
        rules: Rules | None,
        leaks: SystemPromptSettings,
        memory: Memory | None = None,
    ) -> None:
        """`rules`: for markup; None where no client shows the answer as Markdown."""
        self._detectors = detectors
        self._actions = actions
        self._rules = rules if rules is not None and rules.acts else None
        self._leaks = leaks
        self._memory = memory
        self._patient = memory is None and all(detector.skips_plain_words for detector in detectors)
        self.blocks = "block" in actions.values()

    @property
    def hides_prompt(self) -> bool:
        """Whether the prompt that the engine gets is not to be told."""
        return self._memory is not None and self._memory.prompt is not None

    def remembering(self, memory: Memory) -> AnswerCleaner:
        """The same, for the answer to one question."""
        return AnswerCleaner(self._detectors, self._actions, self._rules, self._leaks, memory)

    def never_shown(self) -> AnswerCleaner:
        """The same for answers that programs read: markup stays in them."""
        return AnswerCleaner(self._detectors, self._actions, None, self._leaks, self._memory)

    def free_text(self, *, shown: bool) -> AnswerCleaner:
        """The same for texts that are no JSON, whatever form the answer has; `shown`: clients may render them."""
        rules, memory = self._rules if shown else None, self._memory
        if memory is not None:
            memory = memory.of_free_text()
        if rules is self._rules and memory is self._memory:
            return self
        return AnswerCleaner(self._detectors, self._actions, rules, self._leaks, memory)

    def clean_text(self, text: str, *, json: bool = False) -> tuple[str, GuardReport]:
        """Clean a whole text; `json`: it is JSON, as the arguments of a tool call are."""
        shows_markup = not json and self._rules is not None and self._rules.may_act(text)
        if len(text) <= MAX_PIECE and self._patient and not shows_markup and is_plain(text):
            return text, GuardReport()
        stream = self.stream(json=json)
        # In pieces, between which a thread that cleans a long text lets others go on.
        pieces = [stream.feed(text[start : start + MAX_PIECE]) for start in range(0, len(text), MAX_PIECE)]
        return "".join(pieces) + stream.finish(), stream.report

    def stream(self, *, json: bool = False) -> TextStream:
        """A cleaner for one text channel."""
        memory = self._memory
        values = StreamCleaner(self._detectors, self._actions, seen=memory.seen if memory is not None else None)
        report = values.report
        stages: list[Stage] = [values]
        if not json and self._rules is not None:
            stages.append(Markup(self._rules, report))
        json = json or (memory is not None and memory.json_answer)
        if json:
            stages.insert(0, PlainEscapes())
        if memory is not None and memory.prompt is not None:
            masks = self._leaks.action == "mask"
            stages.append(LeakStage(memory.prompt, self._leaks.max_words, masks=masks, report=report))
        if memory is not None and memory.vault is not None and memory.vault.entities:
            stages.append(Restorer(memory.vault, report, json=json))
        return values if len(stages) == 1 else Chain(stages, report)
