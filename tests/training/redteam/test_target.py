from __future__ import annotations

import threading
import time
from email.utils import formatdate
from typing import Any

import pytest

from tests.support.served_model import Reply, Serve, completion, refused
from training.redteam import target as target_module
from training.redteam.errors import TargetError
from training.redteam.target import Answer, Target

HELLO = [{"role": "user", "content": "Hello."}]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_module, "_FIRST_WAIT_S", 0.01)


def test_an_answer(serve: Serve) -> None:
    served = serve(lambda body: "Good day.")
    target = Target("t", served.url + "/", "m", "sk-1", max_tokens=7)

    assert target.ask(HELLO, seed=3) == Answer("Good day.")
    [request] = served.requests
    assert request == {"model": "m", "messages": HELLO, "max_tokens": 7, "temperature": 0.0, "seed": 3}
    assert served.keys == ["Bearer sk-1"]
    assert target.identity()["answered_as"] == "served"
    assert "sk-1" not in repr(target) + str(target.identity())


def test_arguments_of_tools_are_part_of_an_answer(serve: Serve) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "send", "arguments": '{"to": "x"}'}}
    body = completion("")
    body["choices"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": [call]}
    served = serve(lambda request: (200, {}, body))

    assert Target("t", served.url, "m").ask(HELLO, 0).text == '{"to": "x"}'


@pytest.mark.parametrize("code", ["content_filter", "guard_blocked", "policy_violation", "unknown_role"])
def test_a_filters_refusal_is_a_block(serve: Serve, code: str) -> None:
    served = serve(lambda body: refused(400, code))

    assert Target("t", served.url, "m").ask(HELLO, 0) == Answer(blocked=code)


def test_a_filtered_answer_is_a_block(serve: Serve) -> None:
    served = serve(lambda body: (200, {}, completion("Well", finish_reason="content_filter")))

    assert Target("t", served.url, "m").ask(HELLO, 0).blocked == "content_filter"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (refused(400, "context_length_exceeded"), "HTTP 400 context_length_exceeded"),
        (refused(404, "policy_not_found"), "HTTP 404 policy_not_found"),
        (refused(401, "invalid_api_key"), "HTTP 401 invalid_api_key"),
        ((400, {}, b"<html>"), "HTTP 400"),
        ((302, {"location": "http://127.0.0.1:1/"}, {}), "HTTP 302"),
        ((200, {}, {"choices": []}), "not an OpenAI answer"),
        ((200, {}, b"\xff"), "not an OpenAI answer"),
    ],
)
def test_everything_else_is_an_error(serve: Serve, reply: Reply, error: str) -> None:
    served = serve(lambda body: reply)

    assert Target("t", served.url, "m").ask(HELLO, 0) == Answer(error=error)
    assert len(served.requests) == 1


def replies(*in_turn: Reply) -> Any:
    left = iter(in_turn)
    return lambda body: next(left)


@pytest.mark.parametrize("after", ["0.3", "soon", ""])
def test_rate_limits_are_waited_out(serve: Serve, quick: None, after: str) -> None:
    busy = refused(429, "rate_limit_exceeded", **{"retry-after": after})
    served = serve(replies(busy, busy, "Good day."))
    started = time.monotonic()

    assert Target("t", served.url, "m").ask(HELLO, 0).text == "Good day."
    assert len(served.requests) == 3
    assert time.monotonic() - started > (0.6 if after == "0.3" else 0.03)


def test_a_date_says_when_to_come_back_too() -> None:
    assert 5 < target_module._retry_after(formatdate(time.time() + 10)) <= 10
    assert target_module._retry_after(formatdate(time.time() - 10)) == 0
    assert target_module._retry_after("-3") == 0


def test_patience_ends(serve: Serve, quick: None) -> None:
    served = serve(lambda body: refused(503, "overloaded"))

    assert Target("t", served.url, "m").ask(HELLO, 0).error == "HTTP 503 overloaded"
    assert len(served.requests) == target_module.MAX_TRIES


def test_one_who_is_told_to_wait_makes_the_others_wait(serve: Serve) -> None:
    served = serve(replies(refused(429, "slow", **{"retry-after": "0.6"}), "One.", "Two."))
    target = Target("t", served.url, "m")
    first = threading.Thread(target=target.ask, args=(HELLO, 0))
    started = time.monotonic()

    first.start()
    while target._resume_at == 0 and time.monotonic() - started < 10:
        time.sleep(0.01)
    target.ask(HELLO, 0)

    assert time.monotonic() - started >= 0.5
    first.join()


def test_waits_end_when_the_run_does(serve: Serve) -> None:
    served = serve(lambda body: refused(429, "slow", **{"retry-after": "500"}))
    target = Target("t", served.url, "m")
    threading.Timer(0.2, target.stopping.set).start()
    started = time.monotonic()

    target.ask(HELLO, 0)

    assert time.monotonic() - started < 10


def test_timeouts_and_closed_ports(serve: Serve) -> None:
    release = threading.Event()

    def late(body: dict[str, Any]) -> Reply:
        release.wait(10)
        return "late"

    slow = Target("t", serve(late).url, "m", timeout_s=0.2)

    assert slow.ask(HELLO, 0).error == "timeout"
    release.set()
    assert Target("t", "http://127.0.0.1:1/v1", "m").ask(HELLO, 0).error == "not reachable"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "127.0.0.1:8000/v1", "http://me:pw@host/v1", "http:///v1"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(TargetError, match="URL must be") as caught:
        Target("t", url, "m")
    assert "pw" not in str(caught.value)


def test_a_target_that_answers_nothing_is_said_to(serve: Serve) -> None:
    served = serve(lambda body: refused(401, "invalid_api_key"))

    with pytest.raises(TargetError, match="does not answer: HTTP 401 invalid_api_key"):
        Target("t", served.url, "m").check()
