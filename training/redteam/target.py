"""The server under attack, by HTTP: one answer a call, with the patience that rate limits ask for."""

from __future__ import annotations

import email.utils
import http.client
import json
import re
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from training.redteam.errors import TargetError
from training.redteam.prompt import Message

MAX_TRIES = 6
MAX_WAIT_S = 60.0
_FIRST_WAIT_S = 0.5
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
# A refusal by a filter, and not of a request that was wrong: by the code or type of the error.
_FILTERED = re.compile(
    r"guard|policy|policies|filter|moderat|safety|jailbreak|inject|unsafe|harm|blocked|content_|unknown_role|field_refused"
)


@dataclass(frozen=True)
class Answer:
    """What came back: a text, or the code with which the server refused to ask its model."""

    text: str = ""
    blocked: str | None = None
    error: str | None = None
    """What went wrong, without any of the prompt: `HTTP 500`, `timeout`."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key is for the host that it was given for."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


@dataclass(eq=False)
class Target:
    """An OpenAI-compatible server and a model of it. Thread-safe."""

    name: str
    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout_s: float = 120.0
    max_tokens: int = 128
    temperature: float = 0.0
    stopping: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set to end every wait."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise TargetError(f"{self.name}: the URL must be http(s)://HOST[:PORT]/v1, without a user")
        self.url = self.url.rstrip("/")
        tls = urllib.request.HTTPSHandler(context=ssl.create_default_context())
        self._opener = urllib.request.build_opener(_NoRedirect(), tls)
        self._lock = threading.Lock()
        self._resume_at = 0.0
        self.seen_model: str | None = None
        self.server: str | None = None

    def identity(self) -> dict[str, str | None]:
        """Which server and model it was, as far as they say."""
        return {
            "name": self.name,
            "url": self.url,
            "model": self.model,
            "answered_as": self.seen_model,
            "server": self.server,
        }

    def check(self) -> None:
        """Ask something harmless; raises TargetError unless it is answered."""
        answer = self.ask([{"role": "user", "content": "Say hello."}], seed=0)
        if answer.error or answer.blocked:
            raise TargetError(f"{self.name} ({self.url}) does not answer: {answer.error or answer.blocked}")

    def ask(self, messages: Sequence[Message], seed: int) -> Answer:
        """One answer. Busy servers are asked again, after as long as they say."""
        body = {
            "model": self.model,
            "messages": list(messages),
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": seed,
        }
        data = json.dumps(body).encode()
        answer = Answer(error="stopped")
        for attempt in range(MAX_TRIES):
            self._wait_for_turn()
            if self.stopping.is_set():
                break
            answer, again_after = self._send(data)
            if again_after is None or attempt == MAX_TRIES - 1:
                break
            self._pause(max(again_after, _FIRST_WAIT_S * 2**attempt) if again_after < MAX_WAIT_S else MAX_WAIT_S)
        return answer

    def _send(self, data: bytes) -> tuple[Answer, float | None]:
        """The answer, and after how many seconds to ask again (None: it is final)."""
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(f"{self.url}/chat/completions", data, headers)  # noqa: S310 (checked above)
        try:
            with self._opener.open(request, timeout=self.timeout_s) as response:
                self.server = self.server or response.headers.get("Server")
                return self._read(response.read()), None
        except urllib.error.HTTPError as error:
            with error:
                again = _retry_after(error.headers.get("Retry-After")) if error.code in _RETRIED else None
                return _refusal(error.code, error.read()), again
        except TimeoutError:
            return Answer(error="timeout"), None
        except urllib.error.URLError as error:
            reason = "timeout" if isinstance(error.reason, TimeoutError) else "not reachable"
            return Answer(error=reason), None
        except (OSError, http.client.HTTPException):
            return Answer(error="connection lost"), 0.0

    def _read(self, data: bytes) -> Answer:
        try:
            body = json.loads(data)
            choice = body["choices"][0]
            message = choice["message"]
            text = "\n".join([message.get("content") or "", *_arguments(message)])
            self.seen_model = self.seen_model or body.get("model")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return Answer(error="not an OpenAI answer")
        if choice.get("finish_reason") == "content_filter":
            return Answer(text.strip(), blocked="content_filter")
        return Answer(text.strip())

    def _pause(self, seconds: float) -> None:
        """Everybody waits: who is told to slow down should not send others ahead."""
        with self._lock:
            self._resume_at = max(self._resume_at, time.monotonic() + seconds)

    def _wait_for_turn(self) -> None:
        while (left := self._resume_at - time.monotonic()) > 0 and not self.stopping.wait(left):
            pass


def _arguments(message: dict[str, Any]) -> list[str]:
    """What a tool would be called with: a leak there is one too."""
    return [call["function"]["arguments"] for call in message.get("tool_calls") or ()]


def _refusal(status: int, data: bytes) -> Answer:
    try:
        error = json.loads(data)["error"]
        named = [str(error[key]) for key in ("code", "type") if isinstance(error.get(key), str)]
    except (ValueError, KeyError, TypeError, AttributeError):
        named = []
    for name in named:
        if status < 500 and status not in (401, 404, 408, 429) and _FILTERED.search(name):
            return Answer(blocked=_code(name))
    return Answer(error=f"HTTP {status}" + (f" {_code(named[0])}" if named else ""))


def _code(name: str) -> str:
    """A code as it may be shown: servers have been seen to put sentences there."""
    return re.sub(r"[^\w.-]", "_", name)[:60]


def _retry_after(value: str | None) -> float:
    """Seconds, from either form of the header; 0 where there is none."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
