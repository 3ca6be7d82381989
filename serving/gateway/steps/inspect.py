"""The step that asks the guard's classifiers about a request before it goes to an engine.

Off by default, and then nothing of it runs. What users say goes to `attack` and `toxicity`; results of tools and
documents go to `indirect`, and are marked as data where the settings say so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from monitoring.telemetry import ClassifierMetrics
from serving.gateway.cleaning import offload
from serving.gateway.context import RequestContext
from serving.gateway.errors import ClassifierUnavailable, ContentBlocked
from serving.guard import GuardReport
from serving.guard.classifiers import ClassifierPool, ClassifiersSettings, Verdicts, make_pool, mark_as_data
from serving.guard.classifiers.data import Texts, read_texts

log = logging.getLogger(__name__)

_ABOUT_SAID = ("attack", "toxicity")
_ABOUT_DATA = ("indirect",)


class Inspector:
    """The classifiers of one gateway, and what follows from their scores."""

    def __init__(self, settings: ClassifiersSettings, metrics: ClassifierMetrics) -> None:
        self.metrics = metrics
        self.apply(settings)

    def apply(self, settings: ClassifiersSettings) -> None:
        """Take on new settings; questions under way end with the old ones."""
        self.pool: ClassifierPool = make_pool(settings, self.metrics.answered)
        self.settings = settings
        self._about_said = [name for name in _ABOUT_SAID if self._action(name) != "off"]
        self._about_data = [name for name in _ABOUT_DATA if self._action(name) != "off"]
        self.active = bool(self._about_said or self._about_data or settings.mark_data)
        """Whether requests are looked at at all."""
        for name in (*self._about_said, *self._about_data):
            self.metrics.expect(name, self.pool.categories(name), self._action(name))

    async def inspect(self, context: RequestContext) -> RequestContext:
        """Ask about one request; mark its data.

        Raises:
            ContentBlocked: a classifier that is set to block has flagged it.
            ClassifierUnavailable: one that is set to fail closed gave no answer.
        """
        if not context.endpoint.generates:
            return context  # embeddings and counts: no model reads the text as an instruction
        texts = await offload(context.tenant, len(context.raw_body), read_texts, context.question.body)
        verdicts = await self._verdicts(texts)
        self._act(context, verdicts)
        if self.settings.mark_data:
            await offload(context.tenant, len(context.raw_body), _mark, texts)
        return context

    def stop(self) -> None:
        """No request is open any more."""
        self.pool.close()

    async def _verdicts(self, texts: Texts) -> list[tuple[str, Verdicts]]:
        """(classifier, what it says) for each text and classifier."""
        results: list[tuple[str, Verdicts]] = []
        for names, read in ((self._about_said, texts.said), (self._about_data, texts.data_texts())):
            for name in names if read else ():
                results += [(name, verdicts) for verdicts in await self.pool.scores_of(read, [name])]
        return results

    def _act(self, context: RequestContext, verdicts: Iterable[tuple[str, Verdicts]]) -> None:
        flagged: dict[str, str] = {}
        closed = False
        for name, verdict in verdicts:
            closed = closed or verdict.closed
            for category in verdict.flagged:
                if flagged.get(category) != "block":
                    flagged[category] = self._action(name)
        for category, action in sorted(flagged.items()):
            self._note(context, category, action)
        if blocked := [category for category, action in sorted(flagged.items()) if action == "block"]:
            raise ContentBlocked(f"The request was refused, as it looks like: {', '.join(blocked)}.")
        if closed:
            message = "The request could not be checked in time, and is refused unchecked. Ask again."
            raise ClassifierUnavailable(message, headers=((b"retry-after", b"1"),))

    def _note(self, context: RequestContext, category: str, action: str) -> None:
        """Into the metrics, the log and the request's record; without its text."""
        self.metrics.flagged(category, action)
        context.input_report = context.input_report or GuardReport()
        context.input_report.add(category.upper(), action)
        tenant = context.principal.tenant if context.principal is not None else ""
        log.warning(
            "request flagged",
            extra={"request_id": context.request_id, "tenant": tenant, "code": category, "reason": action},
        )

    def _action(self, name: str) -> str:
        action: str = getattr(self.settings, name).action
        return action


def _mark(texts: Texts) -> None:
    for holder, key in texts.data:
        holder[key] = mark_as_data(holder[key])
