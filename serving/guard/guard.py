"""The guard: one object for all requests and answers of a gateway."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from typing import Any

from serving.guard.answer.answer import AnswerCleaner, TextStream
from serving.guard.answer.tags import Rules
from serving.guard.detector import Detector
from serving.guard.detectors import default_detectors
from serving.guard.outcome import GuardReport
from serving.guard.question.control import ControlTokens
from serving.guard.question.memory import Memory, MemoryRules, is_shown
from serving.guard.question.request import EndpointName, RequestCleaner
from serving.guard.settings import GuardSettings


class Guard:
    """Cleans requests on their way in and answers on their way out. Holds no state of a request."""

    def __init__(
        self, settings: GuardSettings, control_tokens: Iterable[str] = (), secret: bytes | None = None
    ) -> None:
        """`control_tokens`: those of the served models, by `control_tokens_of`; without any, every known one counts.

        `secret`: 16 bytes that the canaries follow from, the same in every process that cleans for one gateway.
        """
        secret = secret or secrets.token_bytes(16)
        tokens_given = tuple(control_tokens)
        self._tenants = {
            name: Guard(settings.of_tenant(name), tokens_given, _of_tenant(secret, name)) for name in settings.tenants
        }
        everybodys = settings.model_dump_json(exclude={"tenants", *_NO_POLICY})
        self.policy_digest = hashlib.sha256(everybodys.encode()).hexdigest()
        self._memory_rules = MemoryRules(settings, secret)
        self._remembers_nothing = not self._memory_rules.anything
        tokens = ControlTokens(tokens_given, settings.control_tokens)
        acting = settings.output.acting()
        self._answers = AnswerCleaner(_detectors(acting), acting, Rules(settings.links), settings.system_prompt)
        self._answers_never_shown = self._answers.never_shown()
        self._requests = RequestCleaner(
            settings, tokens, _detectors(settings.input.acting()), _detectors(self._memory_rules.compared)
        )

    @property
    def blocks(self) -> bool:
        """Whether a value may end an answer."""
        return self._answers.blocks

    @property
    def hides_prompt(self) -> bool:
        """Of an answer to which no question is known."""
        return self._answers.hides_prompt

    def of_tenant(self, name: str) -> Guard:
        """What holds for a tenant's requests."""
        return self._tenants.get(name, self) if self._tenants else self

    def clean_request(self, body: dict[str, Any], endpoint: EndpointName) -> GuardReport:
        """Clean a request's body in place, where nothing of it has to be remembered for its answer.

        Raises:
            GuardRefusal: it holds something that is refused rather than cleaned.
        """
        return self.ask(body, endpoint)[0]

    def ask(self, body: dict[str, Any], endpoint: EndpointName) -> tuple[GuardReport, AnswerCleaner]:
        """Clean a request's body in place.

        Returns:
            what was done, and what cleans the answer; the latter may know values of the question, and dies with it.

        Raises:
            GuardRefusal: it holds something that is refused rather than cleaned.
        """
        answers = self._answers_to(body, endpoint)
        if self._remembers_nothing:
            return self._requests.clean(body, endpoint), answers
        memory = self._memory_rules.new()
        report = self._requests.clean(body, endpoint, memory)
        self._memory_rules.end(memory, body)
        return report, answers.remembering(memory)

    def ask_apart(self, body: dict[str, Any], endpoint: EndpointName) -> tuple[GuardReport, dict[str, Any] | None]:
        """As `ask`, in another process than that of the answer, whose `answers_knowing` takes what is returned.

        Raises: as `ask`.
        """
        if self._remembers_nothing:
            return self._requests.clean(body, endpoint), None
        memory = self._memory_rules.new()
        report = self._requests.clean(body, endpoint, memory)
        self._memory_rules.end(memory, body)
        return report, memory.handed_over()

    def answers_knowing(
        self, remembered: dict[str, Any] | None, body: dict[str, Any], endpoint: EndpointName
    ) -> AnswerCleaner:
        """What cleans the answer to a question that was cleaned apart; `body` as it came from there."""
        answers = self._answers_to(body, endpoint)
        return answers if remembered is None else answers.remembering(Memory.taken_over(remembered))

    def _answers_to(self, body: dict[str, Any], endpoint: EndpointName) -> AnswerCleaner:
        return self._answers if is_shown(body, endpoint) else self._answers_never_shown

    def clean_text(self, text: str, *, json: bool = False) -> tuple[str, GuardReport]:
        """Clean a whole text of an answer to which no question is known."""
        return self._answers.clean_text(text, json=json)

    def stream(self, *, json: bool = False) -> TextStream:
        """A cleaner for one text channel of such an answer."""
        return self._answers.stream(json=json)

    def free_text(self, *, shown: bool) -> AnswerCleaner:
        """The same for texts that are no JSON; `shown`: clients may render them."""
        return self._answers.free_text(shown=shown)


_NO_POLICY = frozenset({"cpu_budget_s", "cleaning_processes", "cleaning_queue"})
"""Settings that change nothing of what is done to a text."""


def _of_tenant(secret: bytes, name: str) -> bytes:
    return hashlib.blake2b(name.encode(), key=secret, digest_size=16).digest()


def _detectors(entities: Iterable[str]) -> tuple[Detector, ...]:
    wanted = frozenset(entities)
    return tuple(detector for detector in default_detectors() if detector.entity in wanted)
