"""The two steps of the policy on a request's way, and the file that they follow.

Without a policy file, or for a request that no principle concerns, nothing is computed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from monitoring.telemetry import PolicyMetrics
from serving.gateway.admission.admission import Admission
from serving.gateway.admission.demand import Demand
from serving.gateway.cleaning import offload
from serving.gateway.context import RequestContext
from serving.gateway.endpoints.texts import FILTERED, AnswerText, Written
from serving.gateway.errors import LedgerDown, PolicyRefused, PolicyUnavailable
from serving.gateway.policy.answer import answer_texts, replace_events, replace_whole
from serving.gateway.policy.calls import EngineCalls
from serving.gateway.policy.model_judge import ModelJudge
from serving.gateway.policy.question import QuestionText, question_texts
from serving.gateway.policy.review import Review
from serving.gateway.policy.revise import revise
from serving.gateway.reload import WatchedFiles
from serving.gateway.routing.router import Router
from serving.guard import GuardReport
from serving.guard.classifiers import ClassifierPool
from serving.guard.policy import (
    Decision,
    JudgedText,
    MaskedAnswers,
    Masks,
    Policy,
    PolicyError,
    Principle,
    Rules,
    Verdict,
    combined_digest,
    decide,
    read_policy,
    require_classifiers,
)
from serving.guard.question.control import ControlTokens
from serving.ledger import Ledger, LedgerUnavailable

log = logging.getLogger(__name__)

FOLLOW_INTERVAL_S = 1.0
_UNCHECKED = "It could not be checked whether this keeps to the policy, so it is not let through. Ask again."


class PolicySteps:
    """The policy of a gateway. Replaced as a whole: a request keeps to the one that it began with."""

    def __init__(
        self,
        file: Path | None,
        tokens: ControlTokens,
        router: Router,
        admission: Admission,
        classifiers: Callable[[], ClassifierPool],
        ledger: Ledger,
        metrics: PolicyMetrics,
    ) -> None:
        """Raises: PolicyError."""
        self._router = router
        self._admission = admission
        self._classifiers = classifiers
        self._ledger = ledger
        self._metrics = metrics
        self._following: asyncio.Task[None] | None = None
        self.policy: Policy | None = None
        self._file = file
        self._watched_files = WatchedFiles(self._watched)
        self.apply(file, tokens)

    def apply(self, file: Path | None, tokens: ControlTokens) -> None:
        """Take another file, and other control tokens of the served models.

        Raises:
            PolicyError: the file cannot be used; the old policy stays.
        """
        self.policy = self._read(file)
        self._file, self._tokens = file, tokens

    def start(self) -> None:
        """Begin to follow the file. Needs a running event loop."""
        self._following = asyncio.create_task(self._watched_files.run(FOLLOW_INTERVAL_S, self.refresh))

    async def stop(self) -> None:
        """Follow no more."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    def refresh(self) -> None:
        """Read the file again; one that cannot be used is logged, and the old policy stays."""
        try:
            self.policy = self._read(self._file)
        except PolicyError as error:
            log.error("policy not read again", extra={"reason": "; ".join(error.problems)})
        else:
            log.info("policy read again", extra={"reason": self.policy.digest if self.policy is not None else "none"})

    def _read(self, file: Path | None) -> Policy | None:
        if file is None:
            return None
        policy = read_policy(file)
        require_classifiers(file, policy, self._classifiers())
        for principle in policy.file.principles:
            action = f"would_{principle.action}" if principle.dry_run else principle.action
            self._metrics.expect(principle.id, action, principle.where)
        return policy

    def _watched(self) -> list[Path]:
        return [self._file] if self._file is not None else []

    def review(self, context: RequestContext, demand: Demand) -> Review | None:
        """The principles that concern a request, if any do; its digest of the policy covers the file."""
        policy = self.policy
        if policy is None or not context.endpoint.generates:
            return None
        assert context.principal is not None
        context.policy_digest = combined_digest(context.policy_digest, policy.digest)
        tenant, model = context.principal.tenant, context.question.model
        question, answer = policy.rules("input", tenant, model), policy.rules("output", tenant, model)
        review: Review | None = None
        if question or answer:
            calls = EngineCalls(self._admission, self._router, demand)
            judge = ModelJudge(
                model, calls, self._classifiers, self._tokens, self._metrics, tenant, context.question.cache_salt
            )
            review = Review(policy, question, answer, judge)
        if answer.masks is not None:
            assert context.answer_guard is not None
            context.answer_guard = MaskedAnswers(context.answer_guard, answer.masks)
        return review

    async def judge_input(self, context: RequestContext, review: Review) -> None:
        """Decide about the question. One that is refused with an answer has `review.refused_by`.

        Raises:
            PolicyRefused: it is refused with an error.
            PolicyUnavailable: a principle that fails closed could not be checked.
            LedgerDown: the decision could not be recorded.
        """
        if not review.question:
            return
        question = await offload(context.tenant, len(context.raw_body), question_texts, context.question.body)
        counts = _counts([context.input_report] if context.input_report is not None else [])
        texts = [JudgedText(text.text, text.role) for text in question]
        verdict = await self._decide(review, review.question, texts, counts)
        review.note(verdict.decisions, "input")
        if review.question.masks is not None and verdict.passes:
            report = await offload(context.tenant, len(context.raw_body), _mask, question, review.question.masks)
            self._note_masks(review, [report], "input")
            if context.input_report is not None:
                context.input_report.merge(report)
        if (principle := verdict.stopped_by) is not None:
            review.outcome = "refuse", principle.id
            context.mark.leave_out("policy")
        await self._record(context, review)
        self._let_through(review, verdict)
        review.refused_by = verdict.stopped_by

    async def judge_whole(
        self, context: RequestContext, review: Review, reports: Sequence[GuardReport], body: bytes
    ) -> bytes:
        """What is released of a clean answer in one piece. Raises: as `judge_input`."""
        tenant, size = context.tenant, len(body)
        texts = answer_texts(context)
        written = await self._judge_output(context, review, reports, texts)
        return await offload(tenant, size, replace_whole, context, body, written, texts) if written else body

    async def judge_stream(
        self, context: RequestContext, review: Review, reports: Sequence[GuardReport], data: bytes
    ) -> list[bytes]:
        """The events that are released in place of a stream's clean ones; none: it stays. Raises: as `judge_input`."""
        tenant, size = context.tenant, len(data)
        texts = answer_texts(context)
        written = await self._judge_output(context, review, reports, texts)
        return await offload(tenant, size, replace_events, context, data, written, texts) if written else []

    async def _judge_output(
        self, context: RequestContext, review: Review, reports: Sequence[GuardReport], texts: Sequence[AnswerText]
    ) -> dict[int, Written]:
        """Decide about an answer; returns what stands in place of its choices, by their number.

        Raises: as `judge_input`.
        """
        self._note_masks(review, reports, "output")
        counts = _counts(reports)
        written: dict[int, Written] = {}
        if review.reads_answer:
            for choice in dict.fromkeys(text.choice for text in texts):
                own = [text for text in texts if text.choice == choice]
                verdict = await self._decide(review, review.answer, [JudgedText(text.text) for text in own], counts)
                review.note(verdict.decisions, "output")
                if verdict.unchecked is not None:
                    await self._record(context, review)
                    self._let_through(review, verdict)
                if verdict.stopped_by is not None:
                    written[choice] = await self._replace(context, review, verdict.stopped_by, own)
        await self._record(context, review)
        if review.outcome is not None and review.outcome[0] == "refuse" and review.policy.file.refusal == "error":
            raise PolicyRefused(next(own.text for own in written.values() if own.finish_reason == FILTERED))
        return written

    async def _replace(
        self, context: RequestContext, review: Review, principle: Principle, own: Sequence[AnswerText]
    ) -> Written:
        """A choice's revised text, or the reason why there is none."""
        if principle.action == "revise":
            assert context.answer_guard is not None
            text, principle = await revise(review, context.answer_guard, principle, own)
            if text is not None:
                review.outcome = review.outcome or ("revise", principle.id)
                return Written(text, "stop")
            review.note([Decision(principle.id, "refuse")], "output")
        review.outcome = "refuse", principle.id
        return Written(principle.reason or "", FILTERED)

    async def _decide(
        self, review: Review, rules: Rules, texts: Sequence[JudgedText], counts: dict[str, int]
    ) -> Verdict:
        file = review.policy.file
        return await decide(
            rules,
            texts,
            counts,
            review.judge,
            on_failure=file.on_failure,
            budget_s=file.budget_ms / 1000,
            offload=review.judge.offload,
        )

    def _let_through(self, review: Review, verdict: Verdict) -> None:
        """Raises: PolicyRefused, PolicyUnavailable, and what the queue refused a judge's question with."""
        if verdict.unchecked is not None:
            if review.judge.calls.refused is not None:
                raise review.judge.calls.refused
            raise PolicyUnavailable(_UNCHECKED, headers=((b"retry-after", b"1"),))
        if verdict.stopped_by is not None and review.policy.file.refusal == "error":
            raise PolicyRefused(verdict.stopped_by.reason or "", headers=tuple(review.header()))

    def _note_masks(self, review: Review, reports: Iterable[GuardReport], direction: str) -> None:
        masks = review.policy.masks
        for report in reports:
            for (name, action), count in report.counts.items():
                if action == "mask" and name in masks:
                    review.decisions[Decision(masks[name].id, "mask"), direction] += count

    async def _record(self, context: RequestContext, review: Review) -> None:
        """Count what was decided, and put it on record: ids, never a text.

        Raises:
            LedgerDown: the record could not be written.
        """
        if not review.decisions:
            return
        assert context.principal is not None
        decided = []
        for (decision, direction), count in review.decisions.items():
            self._metrics.decided(decision.principle, decision.action, direction, count)
            decided.append({**decision._asdict(), "direction": direction, "count": count})
        review.decisions.clear()
        details = {
            "tenant": context.principal.tenant,
            "policy": review.policy.digest,
            "decisions": decided,
            "prompt_tokens": review.judge.prompt_tokens,
            "completion_tokens": review.judge.completion_tokens,
        }
        try:
            await self._ledger.audit(context.principal.key_id, "policy.decide", context.request_id, details)
        except LedgerUnavailable:
            raise LedgerDown("What the policy decided could not be recorded. Try again later.") from None


def _mask(texts: Iterable[QuestionText], masks: Masks) -> GuardReport:
    """Mask texts where they stand."""
    report = GuardReport()
    for text in texts:
        text.holder[text.key] = masks.whole(text.text, report)
    return report


def _counts(reports: Iterable[GuardReport]) -> dict[str, int]:
    """Values of each entity that the guard found, whatever it did with them."""
    counts: dict[str, int] = {}
    for report in reports:
        for (entity, _), count in report.counts.items():
            counts[entity] = counts.get(entity, 0) + count
    return counts
