"""Runs classifiers on threads of its own, within a time budget, and says so when one gives no answer.

A classifier that fails or takes too long fails open or closed, as its settings say; either way it is counted.
The budget counts from the call, so a queue before the threads is part of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from serving.guard.classifiers.classifier import Classifier, Failure, Verdicts
from serving.guard.classifiers.settings import ClassifiersSettings, ClassifierSettings

log = logging.getLogger(__name__)

Observer = Callable[[str, str, float], None]
"""`(classifier, outcome, seconds)`: outcome is `done`, `timeout` or `error`."""

_MAX_WAITING = 256
"""Batches that may wait for a thread: beyond, a classifier counts as too slow at once."""


class ClassifierPool:
    """Asks classifiers by name. Makes no thread before the first question."""

    def __init__(
        self,
        classifiers: Sequence[Classifier],
        settings: ClassifiersSettings,
        observe: Observer = lambda name, outcome, seconds: None,
    ) -> None:
        self.settings = settings
        self._classifiers = {classifier.name: classifier for classifier in classifiers}
        self._observe = observe
        self._threads: ThreadPoolExecutor | None = None
        self._num_waiting = 0

    @property
    def names(self) -> frozenset[str]:
        """The classifiers that there are."""
        return frozenset(self._classifiers)

    def categories(self, name: str) -> tuple[str, ...]:
        """What one of them gives scores for."""
        return self._classifiers[name].categories

    async def scores(self, text: str, names: Collection[str], budget_s: float | None = None) -> Verdicts:
        """What the named classifiers say about a text, within the budget of the settings or a given one."""
        return (await self.scores_of([text], names, budget_s))[0]

    async def scores_of(
        self, texts: Sequence[str], names: Collection[str], budget_s: float | None = None
    ) -> list[Verdicts]:
        """The same about several texts, as one batch for each classifier."""
        budget = self.settings.budget_ms / 1000 if budget_s is None else budget_s
        shown = [shorten(text, self.settings.max_chars) for text in texts]
        answers = await asyncio.gather(*(self._ask(self._classifiers[name], shown, budget) for name in names))
        return [self._verdicts(dict(zip(names, answers, strict=True)), place) for place in range(len(texts))]

    def close(self) -> None:
        """Let the threads go; what they are at ends by itself."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    async def _ask(
        self, classifier: Classifier, texts: Sequence[str], budget_s: float
    ) -> list[dict[str, float]] | Failure:
        started = time.perf_counter()
        outcome: Failure = "timeout"
        if self._num_waiting < _MAX_WAITING:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self.settings.threads, "classifier")
            job = self._threads.submit(classifier.scores, texts)
            self._num_waiting += 1
            loop = asyncio.get_running_loop()
            job.add_done_callback(lambda _: _call_quietly(loop, self._one_less))
            try:
                found = await asyncio.wait_for(asyncio.wrap_future(job), budget_s)
            except TimeoutError:
                outcome = "timeout"
            except Exception as error:
                # Its message may hold the text.
                log.error("classifier failed", extra={"classifier": classifier.name, "reason": type(error).__name__})
                outcome = "error"
            else:
                self._observe(classifier.name, "done", time.perf_counter() - started)
                return found
        self._observe(classifier.name, outcome, time.perf_counter() - started)
        return outcome

    def _one_less(self) -> None:
        self._num_waiting -= 1

    def _verdicts(self, answers: Mapping[str, list[dict[str, float]] | Failure], place: int) -> Verdicts:
        scores: dict[str, float] = {}
        flagged: set[str] = set()
        failed: dict[str, Failure] = {}
        closed = False
        for name, answer in answers.items():
            if isinstance(answer, str):
                failed[name] = answer
                closed = closed or self._settings_of(name).on_failure == "closed"
                continue
            thresholds = self._classifiers[name].thresholds
            own = self._settings_of(name).threshold
            for category, score in answer[place].items():
                scores[category] = max(score, scores.get(category, 0.0))
                if score >= (own or thresholds[category]):
                    flagged.add(category)
        return Verdicts(scores, frozenset(flagged), failed, closed)

    def _settings_of(self, name: str) -> ClassifierSettings:
        # Perspective is a voice on toxicity and follows its settings.
        return {"attack": self.settings.attack, "indirect": self.settings.indirect}.get(name, self.settings.toxicity)


def shorten(text: str, max_chars: int) -> str:
    """The text, or of a longer one its beginning and its end."""
    if len(text) <= max_chars:
        return text
    half = max_chars // 2
    return f"{text[:half]}\n{text[-half:]}"


def _call_quietly(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        # The loop is closed: nobody waits any more.
        return
