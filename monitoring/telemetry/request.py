"""What telemetry reads of a request: the gateway's own context fits, without being imported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class NamedEngine(Protocol):
    """The engine that answers."""

    @property
    def name(self) -> str: ...


class TenantHolder(Protocol):
    """Who asks."""

    @property
    def tenant(self) -> str: ...


class NamedEndpoint(Protocol):
    """Which path was asked; several paths may share a name."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> str: ...


class AskedQuestion(Protocol):
    """What was asked."""

    @property
    def body(self) -> Mapping[str, Any]: ...
    @property
    def model(self) -> str: ...
    @property
    def stream(self) -> bool: ...


class ChosenMark(Protocol):
    """Whether and how the answer is marked."""

    @property
    def scheme(self) -> str: ...


class ObservedAnswer(Protocol):
    """What came of it. `first_token_at` is `time.perf_counter` seconds, 0 when not yet."""

    @property
    def engine(self) -> NamedEngine | None: ...
    @property
    def first_token_at(self) -> float: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...
    @property
    def finish_reason(self) -> str: ...


class ObservedRequest(Protocol):
    """One request. Times: `created_at` is Unix seconds, `started` is `time.perf_counter` seconds."""

    @property
    def request_id(self) -> str: ...
    @property
    def endpoint(self) -> NamedEndpoint: ...
    @property
    def headers(self) -> Mapping[bytes, bytes]: ...
    @property
    def question(self) -> AskedQuestion: ...
    @property
    def mark(self) -> ChosenMark: ...
    @property
    def answer(self) -> ObservedAnswer: ...
    @property
    def principal(self) -> TenantHolder | None: ...
    @property
    def created_at(self) -> float: ...
    @property
    def started(self) -> float: ...
