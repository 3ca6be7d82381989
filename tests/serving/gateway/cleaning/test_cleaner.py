"""Large questions are cleaned in another process, to the same end as small ones on the event loop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.tools.hostile_bodies import bodies
from serving.gateway.body import decode_object
from serving.gateway.cleaning import RequestCleaning
from serving.gateway.context import RequestContext
from serving.gateway.endpoints import ENDPOINTS
from serving.gateway.errors import BadRequest, Overloaded
from serving.guard import Guard, GuardSettings
from serving.identity import Principal
from tests.support.in_process import running_in_process
from tests.support.scripted import ScriptedEngine, answer, whole

ADDRESS = "jane.doe@example.org "
LARGE = ADDRESS * 5000
COSTLY = "%2541 " * 8000
"""Below all sizes that count as large, and far more work than the event loop has time for."""


def question(content: Any, tenant: str = "acme", endpoint: str = "chat", **more: Any) -> RequestContext:
    named = {endpoint.name: endpoint for endpoint in ENDPOINTS.values()}
    context = RequestContext(named[endpoint], {}, b"")
    context.raw_body = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}], **more}).encode()
    context.question.body = decode_object(context.raw_body)
    context.principal = Principal(tenant=tenant, key_id="k")
    return context


@asynccontextmanager
async def cleaning_by(**settings: Any) -> AsyncIterator[RequestCleaning]:
    cleaning = RequestCleaning(GuardSettings(**settings), ())
    yield cleaning
    await cleaning.stop()


def text_of(context: RequestContext) -> str:
    return str(context.question.body["messages"][0]["content"])


async def test_what_is_small_is_cleaned_at_once() -> None:
    async with cleaning_by() as cleaning:
        context = question(ADDRESS * 100)
        assert cleaning.clean_nowait(context)
    assert text_of(context) == "[EMAIL_ADDRESS] " * 100


@pytest.mark.parametrize(
    "content",
    [LARGE, [{"type": "text", "text": "1"}] * 1001, COSTLY],
    ids=["many characters", "many values", "much work"],
)
async def test_what_is_large_is_left_as_it_is_for_another_process(content: Any) -> None:
    async with cleaning_by() as cleaning:
        context = question(content)
        assert not cleaning.clean_nowait(context)
        assert context.question.body == json.loads(context.raw_body)
        assert context.answer_guard is None


async def test_a_guard_that_blocks_can_be_made() -> None:
    async with cleaning_by(input={"email_address": "block"}) as cleaning:
        with pytest.raises(BadRequest) as told:
            cleaning.clean_nowait(question(ADDRESS * 100))
    assert told.value.code == "content_blocked"


async def test_numbers_in_tool_calls_count_as_values() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": json.dumps([1] * 2000)}}
    async with cleaning_by() as cleaning:
        assert not cleaning.clean_nowait(question(None, messages=[{"role": "assistant", "tool_calls": [call]}]))


async def test_a_picture_does_not_make_a_question_large() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 500_000}}
    async with cleaning_by() as cleaning:
        assert cleaning.clean_nowait(question([picture, {"type": "text", "text": ADDRESS}]))


@pytest.mark.parametrize("name", ["addresses across parts", "systems with tokens", "arguments, addresses", "items"])
async def test_a_process_cleans_as_the_event_loop_does(name: str) -> None:
    hostile = dict(bodies())[name]
    expected = hostile.body(2000)
    report = Guard(GuardSettings()).clean_request(expected, hostile.endpoint)  # type: ignore[arg-type]
    async with cleaning_by() as cleaning:
        context = question("", endpoint=hostile.endpoint)
        context.question.body = hostile.body(2000)
        await cleaning.clean(context)
    assert context.question.body == expected
    assert context.input_report is not None
    assert context.input_report.counts == report.counts


async def test_what_the_answer_needs_of_the_question_comes_back() -> None:
    remembering = {
        "input": {"email_address": "pseudonymize"},
        "output": {"card_number": "mask_new"},
        "system_prompt": {"canary": True, "max_words": 4},
    }
    prompt = {"role": "system", "content": "Be good and kind to everybody who asks."}
    asked = {"role": "user", "content": f"{ADDRESS} 4111 1111 1111 1111"}
    answered = "EMAIL_ADDRESS_1, 4111 1111 1111 1111, 5500 0000 0000 0004; be good and kind to everybody"
    async with cleaning_by(**remembering) as cleaning:
        here, there = question("", messages=[prompt, asked]), question("", messages=[prompt, asked])
        assert cleaning.clean_nowait(here)
        await cleaning.clean(there)
    assert here.question.body == there.question.body
    assert here.answer_guard is not None
    assert there.answer_guard is not None
    text, report = there.answer_guard.clean_text(answered)
    assert text == "jane.doe@example.org, 4111 1111 1111 1111, [CARD_NUMBER]; [SYSTEM_PROMPT]"
    assert (text, report.counts) == (lambda found: (found[0], found[1].counts))(here.answer_guard.clean_text(answered))


async def test_what_is_too_costly_is_refused_and_the_next_is_cleaned() -> None:
    async with cleaning_by(cpu_budget_s=0.1) as cleaning:
        with pytest.raises(BadRequest) as told:
            await cleaning.clean(question("%2541 " * 100_000))
        context = question(ADDRESS)
        await cleaning.clean(context)
    assert (told.value.http_status, told.value.code) == (400, "too_costly_to_clean")
    assert text_of(context) == "[EMAIL_ADDRESS] "


async def test_what_the_guard_refuses_is_refused_from_a_process_too() -> None:
    async with cleaning_by() as cleaning:
        with pytest.raises(BadRequest) as told:
            await cleaning.clean(question(LARGE, messages=[{"role": "wizard", "content": LARGE}]))
    assert (told.value.code, told.value.param) == ("unknown_role", "messages[0].role")


async def test_a_process_that_was_killed_costs_no_request() -> None:
    async with cleaning_by() as cleaning:
        await cleaning.clean(question(ADDRESS))
        os.kill(cleaning._idle[0]._process.pid, signal.SIGKILL)
        context = question(ADDRESS)
        await cleaning.clean(context)
        assert text_of(context) == "[EMAIL_ADDRESS] "


async def test_without_processes_nothing_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cleaning_by() as cleaning:
        monkeypatch.setattr("serving.gateway.cleaning.process.sys.executable", "/nowhere")
        with pytest.raises(Overloaded) as told:
            await cleaning.clean(question(ADDRESS))
    assert told.value.code == "cleaning_failed"


async def test_new_settings_hold_for_large_questions() -> None:
    async with cleaning_by() as cleaning:
        await cleaning.clean(question(ADDRESS))
        cleaning.apply(GuardSettings(input={"email_address": "allow"}), ())
        context = question(ADDRESS)
        await cleaning.clean(context)
    assert text_of(context) == ADDRESS


@pytest.mark.parametrize("name", ["addresses across parts", "text: percents, nested", "arguments, long numbers"])
async def test_a_gateway_answers_others_while_it_cleans(name: str, engine: ScriptedEngine, tmp_path: Path) -> None:
    engine.script = lambda _: whole(answer("fine"))
    hostile = {**dict(bodies())[name].body(30_000), "model": "scripted"}
    inline = time.process_time()
    Guard(GuardSettings()).ask(json.loads(json.dumps(hostile)), "chat")
    inline = time.process_time() - inline
    async with running_in_process(engine.url, tmp_path) as gateway:
        async with httpx.AsyncClient() as client:
            await client.get(f"{gateway.url}/healthz")
            before = time.process_time()
            asked = asyncio.create_task(gateway.ask(**hostile))
            answers = 0
            while not asked.done():
                assert (await client.get(f"{gateway.url}/healthz")).status_code == 200
                answers += 1
                await asyncio.sleep(0.01)
            polled = before + answers * 0.01  # about what asking costs
        assert b"fine" in await asked
    assert answers > 5
    # The work was done elsewhere: this process has computed far less than it takes.
    assert time.process_time() - polled < inline


async def test_an_answer_that_no_client_shows_keeps_its_markup_wherever_its_question_was_cleaned() -> None:
    async with cleaning_by() as cleaning:
        context = question("", endpoint="completions", prompt=ADDRESS)
        await cleaning.clean(context)
    assert context.answer_guard is not None
    assert context.answer_guard.clean_text("<script>x</script>")[0] == "<script>x</script>"
