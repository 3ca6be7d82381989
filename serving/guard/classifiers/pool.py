"""Runs classifiers on threads of its own, within a time budget, and says so when one gives no answer.

A classifier that fails or takes too long fails open or closed, as its settings say; either way it is counted.
The budget counts from the call, so a queue before the threads is part of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from serving.guard.classifiers.classifier import Classifier, Failure, Verdicts
from serving.guard.classifiers.settings import ClassifierSettings, ClassifiersSettings

T = TypeVar("T")

log = logging.getLogger(__name__)

Observer = Callable[[str, str, float], None]
"""`(classifier, outcome, seconds)`: outcome is `done`, `timeout` or `error`."""

PERSPECTIVE = "perspective"
"""Asked along with `toxicity`, where there is a key for it."""

_MAX_WAITING = 256
"""Batches that may wait for a thread: beyond, a classifier counts as too slow at once."""

_FEW_TEXTS = 512
_BATCH_TEXTS = 256
"""A thread cannot be stopped: between batches it looks whether somebody still waits."""

_MAX_KNOWN = 20_000
"""Scores that are remembered, by a digest of their text; about 5 MB."""


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
        self._threads: dict[bool, ThreadPoolExecutor] = {}
        """For what computes (False), and for what waits for a service (True)."""
        self._num_waiting = 0
        self._known: dict[tuple[str, bytes], dict[str, float]] = {}

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
        asked = [name for name in self._classifiers if name in names or (name == PERSPECTIVE and "toxicity" in names)]
        digests = await _where_fit(len(shown), lambda: [_digest(text) for text in shown])
        answers = await asyncio.gather(
            *(self._answer(self._classifiers[name], shown, digests, budget) for name in asked)
        )
        by_name = dict(zip(asked, answers, strict=True))
        return await _where_fit(len(texts), lambda: [self._verdicts(by_name, place) for place in range(len(texts))])

    def close(self) -> None:
        """Let the threads go; what they are at ends by itself."""
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)
        self._threads.clear()

    async def _answer(
        self, classifier: Classifier, texts: Sequence[str], digests: Sequence[bytes], budget_s: float
    ) -> list[dict[str, float]] | Failure:
        """Scores of all texts; only those that are new are asked about: a conversation repeats its earlier turns."""
        names = [(classifier.name, digest) for digest in digests]
        # What is known may be forgotten while the rest is asked about.
        known = {name: self._known[name] for name in names if name in self._known}
        new = {name: text for name, text in zip(names, texts, strict=True) if name not in known}
        if new:
            scores = await self._ask(classifier, list(new.values()), budget_s)
            if isinstance(scores, str):
                return scores
            known.update(zip(new, scores, strict=True))
            self._known.update(known)
            while len(self._known) > _MAX_KNOWN:
                self._known.pop(next(iter(self._known)))
        return [known[name] for name in names]

    async def _ask(
        self, classifier: Classifier, texts: Sequence[str], budget_s: float
    ) -> list[dict[str, float]] | Failure:
        started = time.perf_counter()
        outcome: Failure = "timeout"
        if self._num_waiting < _MAX_WAITING:
            self._num_waiting += 1
            job = self._threads_for(classifier).submit(_scores, classifier, texts, time.monotonic() + budget_s)
            loop = asyncio.get_running_loop()
            job.add_done_callback(lambda _: _call_quietly(loop, self._one_less))
            try:
                scores = await asyncio.wait_for(asyncio.wrap_future(job), budget_s)
            except TimeoutError:
                outcome = "timeout"
            except Exception as error:
                # Its message may hold the text.
                log.error("classifier failed", extra={"source": classifier.name, "reason": type(error).__name__})
                outcome = "error"
            else:
                self._observe(classifier.name, "done", time.perf_counter() - started)
                return scores
        self._observe(classifier.name, outcome, time.perf_counter() - started)
        return outcome

    def _threads_for(self, classifier: Classifier) -> ThreadPoolExecutor:
        waits = classifier.name == PERSPECTIVE
        if waits not in self._threads:
            self._threads[waits] = ThreadPoolExecutor(4 if waits else self.settings.threads, "classifier")
        return self._threads[waits]

    def _one_less(self) -> None:
        self._num_waiting -= 1

    def _verdicts(self, answers: Mapping[str, list[dict[str, float]] | Failure], place: int) -> Verdicts:
        scores: dict[str, float] = {}
        flagged: set[str] = set()
        failed: dict[str, Failure] = {}
        closed = False
        for name, answer in answers.items():
            own = self._settings_of(name)
            if isinstance(answer, str):
                failed[name] = answer
                closed = closed or (own is not None and own.on_failure == "closed")
                continue
            thresholds = self._classifiers[name].thresholds
            for category, score in answer[place].items():
                scores[category] = max(score, scores.get(category, 0.0))
                if score >= ((own.threshold if own is not None else None) or thresholds[category]):
                    flagged.add(category)
        return Verdicts(scores, frozenset(flagged), failed, closed)

    def _settings_of(self, name: str) -> ClassifierSettings | None:
        """None for Perspective, which has thresholds of its own and whose absence never stops a request."""
        settings: ClassifierSettings | None = getattr(self.settings, name, None) if name != PERSPECTIVE else None
        return settings


async def _where_fit(num_texts: int, work: Callable[[], T]) -> T:
    """Work that takes microseconds for each text: on a thread where there are very many."""
    return work() if num_texts <= _FEW_TEXTS else await asyncio.to_thread(work)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace")).digest()


def _scores(classifier: Classifier, texts: Sequence[str], deadline: float) -> list[dict[str, float]]:
    """Scores of all texts. TimeoutError: nobody waits for them any more."""
    scores: list[dict[str, float]] = []
    for start in range(0, len(texts), _BATCH_TEXTS):
        if time.monotonic() > deadline:
            raise TimeoutError
        scores += classifier.scores(texts[start : start + _BATCH_TEXTS])
    return scores


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
