"""A request as telemetry sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Named:
    name: str = "http://127.0.0.1:8100"
    tenant: str = "acme"


@dataclass(frozen=True)
class Endpoint:
    name: str = "chat"
    path: str = "/v1/chat/completions"


@dataclass(frozen=True)
class Mark:
    scheme: str = "gumbel"


@dataclass
class Request:
    """The part of a gateway's request context that telemetry reads."""

    request_id: str = "req_1"
    endpoint: Endpoint = Endpoint()
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    model: str = "m"
    stream: bool = True
    principal: Named | None = field(default_factory=Named)
    engine: Named | None = field(default_factory=Named)
    created_at: float = 1_795_000_000.0
    started: float = 10.0
    first_token_at: float = 10.2
    prompt_tokens: int = 3
    completion_tokens: int = 5
    finish_reason: str = "stop"
    mark: Mark = Mark()

    @property
    def question(self) -> Request:
        return self

    @property
    def answer(self) -> Request:
        return self
