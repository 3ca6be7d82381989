"""The third stage: the question is cleaned, and refused if it may not be asked."""

from __future__ import annotations

from serving.gateway.admission.demand import Demand
from serving.gateway.cleaning import RequestCleaning
from serving.gateway.context import RequestContext
from serving.gateway.engines.pool import EnginePool
from serving.gateway.policy import PolicySteps
from serving.gateway.policy.review import Review
from serving.gateway.reload import Part
from serving.gateway.steps.inspect import Inspector
from serving.gateway.steps.mark import choose_mark
from serving.guard import control_tokens_of
from serving.guard.question.control import ControlTokens
from serving.provenance import Keyring
from serving.settings import Settings


class Check:
    """The guard, the classifiers and the policy. Chooses the mark too, as what was cleaned can be marked or not."""

    LIVE = ("guard", "gateway.model_folders")

    def __init__(
        self,
        cleaning: RequestCleaning,
        keyring: Keyring | None,
        pool: EnginePool,
        inspector: Inspector,
        policy_steps: PolicySteps,
    ) -> None:
        self._cleaning = cleaning
        self._keyring = keyring
        self._pool = pool
        self._inspector = inspector
        self._policy_steps = policy_steps

    async def start(self) -> None:
        self._policy_steps.start()

    async def stop(self) -> None:
        await self._policy_steps.stop()
        self._inspector.stop()
        await self._cleaning.stop()

    def parts(self) -> list[Part]:
        return [Part(self.LIVE, self._apply)]

    async def clean(self, context: RequestContext) -> None:
        """Clean the question, and choose its answer's mark."""
        if not self._cleaning.clean_nowait(context):
            await self._cleaning.clean(context)
        choose_mark(context, self._keyring, self._pool)

    @property
    def is_on(self) -> bool:
        """Whether `judge` has anybody to ask."""
        return self._inspector.active or self._policy_steps.policy is not None

    async def judge(self, context: RequestContext, demand: Demand) -> Review | None:
        """Ask classifiers and the policy; returns what the policy says, if it concerns the request.

        One that is refused with an answer has `review.refused_by`.
        """
        if self._inspector.active:
            await self._inspector.inspect(context)
        if self._policy_steps.policy is None:
            return None
        review = self._policy_steps.review(context, demand)
        if review is not None:
            await self._policy_steps.judge_input(context, review)
        return review

    def _apply(self, settings: Settings) -> None:
        self._policy_steps.apply(settings.guard.policy, broken_tokens(settings))
        self._cleaning.apply(settings.guard, served_tokens(settings))
        self._inspector.apply(settings.guard.classifiers)


def broken_tokens(settings: Settings) -> ControlTokens:
    """What is made inert in a text that a judge is asked about: the tokens that the guard breaks in questions."""
    return ControlTokens(served_tokens(settings), settings.guard.control_tokens)


def served_tokens(settings: Settings) -> frozenset[str]:
    """Control tokens of the models whose tokenizer is at hand."""
    folders = settings.gateway.model_folders.values()
    return frozenset[str]().union(*(control_tokens_of(folder) for folder in folders))
