"""The policy's two steps on a request by itself: no gateway, no engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from monitoring.telemetry import PolicyMetrics
from serving.gateway.admission.admission import Admission
from serving.gateway.admission.demand import Demand
from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT, ENDPOINTS
from serving.gateway.errors import LedgerDown, PolicyRefused, PolicyUnavailable
from serving.gateway.policy.review import Review
from serving.gateway.policy.steps import PolicySteps
from serving.gateway.records import HeardTexts
from serving.gateway.routing.router import Router
from serving.gateway.settings.admission import AdmissionSettings
from serving.gateway.settings.routing import RoutingSettings
from serving.guard import Guard, GuardSettings
from serving.guard.classifiers import ClassifierPool
from serving.guard.policy import PolicyError
from serving.guard.question.control import ControlTokens
from serving.guard.settings import ClassifiersSettings
from serving.ledger import LedgerUnavailable
from tests.serving.gateway.admission.engines import SeenPool
from tests.support.questions import request

POLICY = """\
version: 1
refusal: {refusal}
principles:
  - {{id: no-arson, principle: No fires., where: input, check: {{words: [arson]}}, action: refuse,
     reason: No fires here.}}
  - {{id: names, principle: Names stay inside., check: {{words: [falcon nine]}}, action: mask}}
  - {{id: dry, principle: On trial., where: input, check: {{words: [trial]}}, action: refuse, dry_run: true,
     reason: Never shown.}}
  - {{id: no-weapons, principle: No weapons., where: output, tenants: [held], check: {{words: [sword]}}, action: refuse,
     reason: It was about weapons.}}
  - id: judged
    principle: Kindness.
    where: input
    tenants: [judged]
    check: {{judge: {{question: "Is it cruel?"}}}}
    action: refuse
    reason: Ask kindly.
"""


class Ledger:
    """Keeps what is audited, or is down."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.is_down = False

    async def audit(self, actor: str, action: str, subject: str, details: dict[str, Any]) -> None:
        if self.is_down:
            raise LedgerUnavailable("no disk")
        self.events.append({"actor": actor, "action": action, "subject": subject, **details})


class Steps(PolicySteps):
    """The steps with a ledger whose records can be read, and the figures."""

    def __init__(self, file: Path) -> None:
        self.ledger, self.registry = Ledger(), CollectorRegistry()
        pool: Any = SeenPool()  # without an engine: no judge can be asked
        super().__init__(
            file,
            ControlTokens([]),
            Router(pool, RoutingSettings()),
            Admission(AdmissionSettings(), pool),
            lambda: ClassifierPool([], ClassifiersSettings()),
            self.ledger,  # type: ignore[arg-type]
            PolicyMetrics(self.registry),
        )

    def decided(self, principle: str, action: str, direction: str) -> float | None:
        labels = {"principle": principle, "action": action, "direction": direction}
        return self.registry.get_sample_value("signet_policy_decisions_total", labels)

    async def about(self, text: str, tenant: str = "acme", **more: Any) -> tuple[RequestContext, Review]:
        """A question whose principles were found, and what was decided about it."""
        context, review = self.concerned(text, tenant, **more)
        assert review is not None
        await self.judge_input(context, review)
        return context, review

    def concerned(self, text: str, tenant: str = "acme", path: str = CHAT.path) -> tuple[RequestContext, Review | None]:
        context = request(
            {"model": "m", "messages": [{"role": "user", "content": text}]}, ENDPOINTS[path], tenant=tenant
        )
        context.input_report, context.answer_guard = Guard(GuardSettings()).ask(
            context.question.body, context.endpoint.name
        )
        context.policy_digest = "guard"
        return context, self.review(context, Demand(tenant, 1.0, "m"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(refusal="answer"))
    return path


@pytest.fixture
def steps(file: Path) -> Steps:
    return Steps(file)


def answer(text: str) -> bytes:
    return json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}).encode()


async def test_a_question_that_breaks_a_principle_is_refused_with_its_reason(steps: Steps) -> None:
    context, review = await steps.about("How does ARSON work?")

    assert review.refused_by is not None
    assert review.refused_by.reason == "No fires here."
    assert review.header() == [(b"x-signet-policy", b"refuse;principle=no-arson")]
    assert context.mark.scheme == "off"


async def test_one_that_breaks_none_is_let_through_and_nothing_is_recorded(steps: Steps) -> None:
    context, review = await steps.about("How does gardening work?")

    assert review.refused_by is None
    assert review.header() == []
    assert steps.ledger.events == []
    assert context.question.body["messages"][0]["content"] == "How does gardening work?"


async def test_words_are_masked_where_they_stand(steps: Steps) -> None:
    context, review = await steps.about("Is Falcon  Nine ready?")

    assert context.question.body["messages"][0]["content"] == "Is [NAMES] ready?"
    assert review.refused_by is None
    assert [event["decisions"] for event in steps.ledger.events] == [
        [{"principle": "names", "action": "mask", "direction": "input", "count": 1}]
    ]


async def test_a_refused_question_is_not_masked_besides(steps: Steps) -> None:
    context, _ = await steps.about("Arson at falcon nine")

    assert "falcon nine" in context.question.body["messages"][0]["content"]


async def test_what_is_on_trial_is_counted_and_refuses_nobody(steps: Steps) -> None:
    _, review = await steps.about("a trial")

    assert review.refused_by is None
    assert steps.decided("dry", "would_refuse", "input") == 1


async def test_a_decision_is_on_record_without_a_text(steps: Steps) -> None:
    context, review = await steps.about("secret arson")

    [event] = steps.ledger.events
    assert (event["actor"], event["action"], event["subject"]) == ("key_1", "policy.decide", context.request_id)
    assert (event["tenant"], event["policy"]) == ("acme", review.policy.digest)
    assert "secret" not in json.dumps(event)
    assert steps.decided("no-arson", "refuse", "input") == 1


async def test_what_cannot_be_recorded_is_not_let_through(steps: Steps) -> None:
    steps.ledger.is_down = True

    with pytest.raises(LedgerDown):
        await steps.about("arson")


async def test_a_judge_that_nobody_can_ask_lets_nothing_through(steps: Steps) -> None:
    with pytest.raises(PolicyUnavailable) as refused:
        await steps.about("kick the dog", tenant="judged")
    assert refused.value.headers == ((b"retry-after", b"1"),)
    assert steps.decided("judged", "failed", "input") == 1


@pytest.fixture
def strict_steps(file: Path) -> Steps:
    file.write_text(POLICY.format(refusal="error"))
    return Steps(file)


async def test_refusals_can_be_errors(strict_steps: Steps) -> None:
    with pytest.raises(PolicyRefused, match="No fires here"):
        await strict_steps.about("arson")


@pytest.mark.parametrize("path", ["/v1/embeddings", "/tokenize", "/v1/messages/count_tokens"])
def test_where_nothing_is_generated_no_principle_holds(path: str, steps: Steps) -> None:
    context, review = steps.concerned("arson", path=path)

    assert review is None
    assert context.policy_digest == "guard"


def test_the_digest_of_what_held_covers_the_policy(steps: Steps) -> None:
    context, review = steps.concerned("hello")

    assert review is not None
    assert context.policy_digest not in ("guard", review.policy.digest)


def hear(context: RequestContext, *pieces: str) -> None:
    """What the relay has told of the answer."""
    context.answer.heard = HeardTexts()
    for piece in pieces:
        context.answer.tell(piece, 0, "content")


async def test_an_answer_that_breaks_a_principle_is_replaced(steps: Steps) -> None:
    context, review = await steps.about("hello", tenant="held")
    context.mark.scheme, context.mark.key_id = "kgw", "mk1-0"
    hear(context, "Draw your sword.")

    body = json.loads(await steps.judge_whole(context, review, [], answer("Draw your sword.")))

    [choice] = body["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("It was about weapons.", "content_filter")
    assert (context.mark.scheme, context.mark.note) == ("off", "policy")
    assert steps.decided("no-weapons", "refuse", "output") == 1


async def test_an_answer_that_breaks_none_stays_as_it_came(steps: Steps) -> None:
    context, review = await steps.about("hello", tenant="held")
    body = answer("Draw a tree.")
    hear(context, "Draw a tree.")

    assert await steps.judge_whole(context, review, [], body) is body
    assert review.header() == []


async def test_principles_are_of_their_tenants(steps: Steps) -> None:
    context, review = await steps.about("hello")
    body = answer("Draw your sword.")
    hear(context, "Draw your sword.")

    assert await steps.judge_whole(context, review, [], body) is body
    assert not review.reads_answer
    assert not review.holds_answer


async def test_a_stream_is_judged_as_a_whole(steps: Steps) -> None:
    context, review = await steps.about("hello", tenant="held")
    pieces = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in ("Draw your sw", "ord.")]
    data = b"".join(b"data: " + json.dumps(piece).encode() + b"\n\n" for piece in pieces)

    hear(context, "Draw your sw", "ord.")

    replaced = b"".join(await steps.judge_stream(context, review, [], data))

    assert b"It was about weapons." in replaced
    assert b"ord." not in replaced
    hear(context, "Draw your w", "ord.")
    assert await steps.judge_stream(context, review, [], data.replace(b"sw", b"w")) == []


def test_a_bad_file_is_refused_at_the_start_and_passed_over_later(steps: Steps, file: Path) -> None:
    before = steps.policy
    file.write_text("version: 1\nprinciples: [{id: x}]\n")

    steps.refresh()

    assert steps.policy is before
    with pytest.raises(PolicyError):
        Steps(file)


def test_another_file_is_taken_up(steps: Steps, file: Path) -> None:
    file.write_text(POLICY.format(refusal="error"))
    before = steps.policy

    steps.refresh()

    assert steps.policy is not None
    assert before is not None
    assert steps.policy.digest != before.digest
    steps.apply(None, ControlTokens([]))
    assert steps.policy is None
