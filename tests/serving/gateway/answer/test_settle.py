"""What is paid for: never less than what was read, whatever the engine counted and however the answer ended."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.serving.gateway.endpoints.streams import event, message_events, response_events, stream_of
from tests.support.gateways import RunningGateway
from tests.support.running import wait_until
from tests.support.scripted import CLOSE, DONE, EVENTS, HANG, ScriptedEngine, answer, chunk, stream, usage_chunk, whole

TEXT = "word " * 40
"""200 characters: 50 tokens by their length."""
PIECES = [TEXT[start : start + 20] for start in range(0, 200, 20)]
QUESTIONS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "q" * 40}]},
    "/v1/messages": {"messages": [{"role": "user", "content": "q" * 40}], "max_tokens": 100},
    "/v1/responses": {"input": "q" * 40},
    "/v1/embeddings": {"input": "q" * 40},
}


def paid(gateway: RunningGateway, request_id: str) -> tuple[int, int, int]:
    """(status, prompt tokens, completion tokens) in the ledger, when they are there."""
    found: list[tuple[int, int, int]] = []

    def look() -> bool:
        with closing(sqlite3.connect(gateway.home / "signet.db")) as database:
            asked = "select status, prompt_tokens, completion_tokens from requests where request_id = ?"
            found[:] = database.execute(asked, (request_id,)).fetchall()
        return bool(found)

    wait_until(look, 5, "the answer is on record")
    return found[0]


def ask(gateway: RunningGateway, path: str, leaves_after: str = "", **more: object) -> tuple[int, int, int]:
    """Ask, read all or go when `leaves_after` has come; returns what was paid."""
    headers = {"authorization": f"Bearer {gateway.key}"}
    body = {"model": "scripted", **QUESTIONS[path], **more}
    with httpx.stream("POST", f"{gateway.url}{path}", json=body, headers=headers, timeout=20) as response:
        seen = ""
        for text in response.iter_text():
            seen += text
            if leaves_after and leaves_after in seen:
                break
    return paid(gateway, response.headers["x-request-id"])


def cut_before(events: list[bytes], kind: bytes) -> list[bytes]:
    """The events up to the first of a kind."""
    return events[: next(number for number, each in enumerate(events) if kind in each)]


STARTED: dict[str, list[bytes]] = {
    "/v1/messages": cut_before(message_events([("text", PIECES)]), b"content_block_stop"),
    "/v1/responses": cut_before(response_events(PIECES), b"output_text.done"),
    "/v1/chat/completions": [
        chunk({"role": "assistant"}),
        usage_chunk(11, 1),
        *(chunk({"content": p}) for p in PIECES),
    ],
}


@pytest.mark.parametrize("path", STARTED)
def test_a_client_that_leaves_pays_for_what_it_read(path: str, gateway: RunningGateway, engine: ScriptedEngine) -> None:
    engine.script = lambda _: [EVENTS, *STARTED[path], HANG]

    status, prompt, completion = ask(gateway, path, leaves_after=PIECES[-2], stream=True)

    assert status == 499
    assert prompt in (10, 11)
    assert 40 <= completion <= 51


@pytest.mark.parametrize("path", STARTED)
def test_the_death_of_an_engine_does_not_make_an_answer_free(
    path: str, gateway: RunningGateway, engine: ScriptedEngine
) -> None:
    engine.script = lambda _: [EVENTS, *STARTED[path], CLOSE]

    status, prompt, completion = ask(gateway, path, stream=True)

    assert status == 502
    assert prompt in (10, 11)
    assert 50 <= completion <= 51


def test_running_counts_are_gone_on_from(gateway: RunningGateway, engine: ScriptedEngine) -> None:
    def counted(text: str, tokens: int) -> bytes:
        usage = b'"usage": {"prompt_tokens": 3, "completion_tokens": %d}, "choices"' % tokens
        return chunk({"content": text}).replace(b'"choices"', usage)

    engine.script = lambda _: [EVENTS, counted(TEXT, 80), counted(TEXT, 160), chunk({"content": TEXT[:40]}), CLOSE]

    assert ask(gateway, "/v1/chat/completions", stream=True) == (502, 3, 170)


def test_zero_is_no_count_of_a_text(gateway: RunningGateway, engine: ScriptedEngine) -> None:
    zero = {**answer(TEXT), "usage": {"prompt_tokens": 0, "completion_tokens": 0}}
    missing = {key: value for key, value in answer(TEXT).items() if key != "usage"}
    for script in (whole(zero), whole(missing), [*stream(PIECES, usage=False)[:-1], usage_chunk(0, 0), DONE]):
        engine.script = lambda _, script=script: script
        assert ask(gateway, "/v1/chat/completions", stream=script[0] == EVENTS) == (200, 10, 50)


def test_the_last_word_of_a_message_may_leave_out_the_prompt(gateway: RunningGateway, engine: ScriptedEngine) -> None:
    events = message_events([("text", PIECES)])
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    events[-2] = event({"type": "message_delta", "delta": ended, "usage": {"output_tokens": 13}})
    engine.script = lambda _: stream_of(events)
    assert ask(gateway, "/v1/messages", stream=True) == (200, 11, 13)

    events[-2] = event({"type": "message_delta", "delta": ended})
    engine.script = lambda _: stream_of(events)
    assert ask(gateway, "/v1/messages", stream=True) == (200, 11, 50)


def test_embeddings_of_an_engine_that_does_not_count_cost_their_text(
    gateway: RunningGateway, engine: ScriptedEngine
) -> None:
    engine.script = lambda _: whole({"object": "list", "data": [{"index": 0, "embedding": [0.5]}]})

    assert ask(gateway, "/v1/embeddings") == (200, 10, 0)
