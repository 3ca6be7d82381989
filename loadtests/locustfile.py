"""Locust users that behave like people at a chat: streams, think time, several tenants, conversations of many turns.

    CHAT_KEYS=sk-signet-…,sk-signet-… locust -f loadtests/locustfile.py --host http://127.0.0.1:8000 \\
        --headless --users 50 --spawn-rate 5 --run-time 2m

Beside Locust's own row for the whole answer (`POST chat`) the statistics hold `TTFT` (to the first text) and
`GAP` (between successive text events of one stream), all per tenant, with percentiles, also at exit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locust import FastHttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.contrib.fasthttp import ResponseContextManager
from locust.exception import StopUser

from loadtests.tools.prompts import conversation_opening, follow_up

_CHAT = "/v1/chat/completions"
_MEAN_TURNS = 3
# Never wait longer for a refused request, whatever Retry-After says: a run has an end.
_MAX_RETRY_AFTER_S = 10.0


@dataclass(frozen=True)
class Tenant:
    """Whose key a user sends. The name labels the statistics; the key is never printed."""

    name: str
    key: str


def read_tenants(keys_file: str | None, keys: str) -> list[Tenant]:
    """The tenants of a file (a line of `signet keys create --json`, or a bare key, each), else of `keys`."""
    lines = Path(keys_file).read_text().splitlines() if keys_file else keys.split(",")
    tenants: list[Tenant] = []
    for line in filter(None, map(str.strip, lines)):
        if line.startswith("{"):
            made = json.loads(line)
            tenants.append(Tenant(made["tenant"], made["key"]))
        else:
            tenants.append(Tenant(f"tenant-{len(tenants) + 1}", line))
    return tenants or [Tenant("no-key", "")]


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: LocustArgumentParser) -> None:
    group: argparse._ArgumentGroup = parser.add_argument_group("Chat")
    group.add_argument("--keys-file", env_var="CHAT_KEYS_FILE", help="Lines of `signet keys create --json`.")
    group.add_argument("--chat-model", default="", help="The model's name (default: the first that is served).")
    group.add_argument("--answer-tokens", type=int, default=64, help="Longest answer, in tokens (default 64).")
    group.add_argument("--think-seconds", type=float, default=3.0, help="Mean pause between turns (default 3).")


class ChatUser(FastHttpUser):
    """One person: opens a conversation, reads, thinks, answers, and after some turns begins another."""

    network_timeout = 300.0

    def on_start(self) -> None:
        options = self.environment.parsed_options
        self.tenant = random.choice(read_tenants(options.keys_file, os.environ.get("CHAT_KEYS", "")))
        self.headers = {"authorization": f"Bearer {self.tenant.key}"} if self.tenant.key else {}
        self.model = options.chat_model or self._first_model()
        self.messages: list[dict[str, str]] = []

    def wait_time(self) -> float:
        mean = float(self.environment.parsed_options.think_seconds)
        return min(random.expovariate(1 / mean), 10 * mean) if mean > 0 else 0.0

    @task
    def say_something(self) -> None:
        """One turn: the next message of this conversation, or the first of a new one."""
        if not self.messages or random.random() < 1 / _MEAN_TURNS:
            self.messages = conversation_opening(random)
        else:
            self.messages.append({"role": "user", "content": follow_up(random)})
        answer = self._ask()
        if answer:
            self.messages.append({"role": "assistant", "content": answer})
        else:
            self.messages = []

    def _first_model(self) -> str:
        with self.client.get("/v1/models", headers=self.headers, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"no models: status {response.status_code}")
                raise StopUser
            return str(response.json()["data"][0]["id"])

    def _ask(self) -> str:
        body = {
            "model": self.model,
            "messages": self.messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": self.environment.parsed_options.answer_tokens,
        }
        name = f"chat {self.tenant.name}"
        started = time.perf_counter()
        with self.client.post(
            _CHAT, json=body, headers=self.headers, name=name, stream=True, catch_response=True
        ) as response:
            if response.status_code != 200:
                self._refused(response)
                return ""
            answer, complete = self._read(response, started)
            # Locust stopped its clock at the headers: for a stream the answer's end is what counts.
            response.request_meta["response_time"] = (time.perf_counter() - started) * 1000
            response.request_meta["response_length"] = len(answer)
            if not complete:
                response.failure("the stream ended without [DONE]")
        return answer

    def _read(self, response: ResponseContextManager, started: float) -> tuple[str, bool]:
        """The stream's text, and whether it came to its end. Reports TTFT and gaps as they happen."""
        pieces: list[str] = []
        last = 0.0
        # Line by line from the socket: iterating over the response waits for whole blocks.
        while line := bytes(response.stream.readline(b"\n")):
            if line.startswith(b"data: [DONE]"):
                response.stream.read()
                return "".join(pieces), True
            text = _text_of(line)
            if not text:
                continue
            now = time.perf_counter()
            if pieces:
                self._report("GAP", now - last)
            else:
                self._report("TTFT", now - started)
            pieces.append(text)
            last = now
        return "".join(pieces), False

    def _refused(self, response: ResponseContextManager) -> None:
        """A refusal counts as a failure under its code; a well-behaved client then waits as it was told."""
        try:
            code = response.json()["error"]["code"]
        except (ValueError, KeyError, TypeError):
            code = "no OpenAI-shaped error"
        response.failure(f"{response.status_code} {code}")  # type: ignore[no-untyped-call]
        retry_after = response.headers.get("retry-after") if response.headers else None
        if retry_after:
            time.sleep(min(float(str(retry_after)), _MAX_RETRY_AFTER_S))

    def _report(self, kind: str, seconds: float) -> None:
        self.environment.events.request.fire(
            request_type=kind,
            name=f"chat {self.tenant.name}",
            response_time=seconds * 1000,
            response_length=0,
            exception=None,
            context={},
        )


def _text_of(line: bytes) -> str:
    if not line.startswith(b"data: {"):
        return ""
    event: dict[str, Any] = json.loads(line[6:])
    return "".join(choice.get("delta", {}).get("content") or "" for choice in event.get("choices", ()))
