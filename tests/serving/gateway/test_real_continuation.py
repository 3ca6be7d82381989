"""Streams cut and continued on the real engine, seen through two proxies as two engines."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from cutting_proxy import CuttingProxy
from gateways import RunningGateway, start_gateway, stop_gateway
from running import answers_ok, wait_until

from serving.provenance import Detector, Keyring

pytestmark = pytest.mark.engine

QUESTIONS = [
    "Write a short story about a lighthouse.",
    "Explain how rain forms.",
    "Count from one to thirty in words.",
    "Say 'smile' in Chinese, Japanese and Greek, with three emoji.",
]


@pytest.fixture(scope="module")
def proxies(engine_url: str) -> Iterator[list[CuttingProxy]]:
    made = [CuttingProxy(engine_url), CuttingProxy(engine_url)]
    yield made
    for proxy in made:
        proxy.stop()


@pytest.fixture(scope="module")
def gateway(
    proxies: list[CuttingProxy], keyring_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    home = tmp_path_factory.mktemp("continued")
    shutil.copy(keyring_path, home / "keyring.json")
    running = start_gateway(home, *(proxy.url for proxy in proxies))
    wait_until(lambda: answers_ok(f"{running.url}/readyz"), 10, "the engine is up", running.process)
    yield running
    stop_gateway(running)


def cut_next(proxies: list[CuttingProxy], place: int | None) -> None:
    """Only the first of the two streams to get so far is cut."""
    for proxy in proxies:
        proxy.cut_after = place


def read(gateway: RunningGateway, question: str, **fields: Any) -> tuple[str, int, str]:
    stream = gateway.client().chat.completions.create(
        messages=[{"role": "user", "content": question}],
        stream=True,
        stream_options={"include_usage": True},
        **{"model": "smollm2-135m-instruct", "max_tokens": 60, "temperature": 0, **fields},
    )
    text, tokens, finish = "", 0, ""
    for event in stream:
        tokens = event.usage.completion_tokens if event.usage else tokens
        for choice in event.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return text, tokens, finish


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_greedy_answer_is_the_uncut_one_up_to_near_ties(
    question: str, proxies: list[CuttingProxy], gateway: RunningGateway
) -> None:
    uncut, tokens, finish = read(gateway, question)
    places = range(1500, 10_000, 1709)
    same = 0
    for place in places:
        before = sum(proxy.num_cut for proxy in proxies)
        cut_next(proxies, place)
        text, continued_tokens, continued_finish = read(gateway, question)
        cut_next(proxies, None)
        # Both proxies are set, so the second engine's stream may be cut as well: fine.
        was_cut = sum(proxy.num_cut for proxy in proxies) > before
        same += text == uncut
        assert text[:8] == uncut[:8]
        assert not was_cut or continued_finish in ("stop", "length")
        if text == uncut:
            assert (continued_tokens, continued_finish) == (tokens, finish)

    # Prefill and decode round differently, and a near-tie then falls the other way.
    assert same >= len(places) // 2


def test_a_marked_answer_that_was_cut_carries_one_mark(
    proxies: list[CuttingProxy], gateway: RunningGateway, model_folder: Path
) -> None:
    keys = Keyring.open(gateway.home / "keyring.json")
    key = gateway.new_key("--mark", "on")
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, timeout=120)
    cut_next(proxies, 16_000)
    stream = client.chat.completions.create(
        model="smollm2-135m-instruct",
        messages=[{"role": "user", "content": QUESTIONS[0]}],
        stream=True,
        temperature=1.0,
        max_tokens=150,
        extra_body={"min_tokens": 150},
    )
    text = "".join(choice.delta.content or "" for event in stream for choice in event.choices)
    cut_next(proxies, None)

    found = Detector(model_folder).detect_text(text, keys.keys())
    assert sum(proxy.num_cut for proxy in proxies) > 0
    assert found.marked
    assert found.tenant == "acme"
    # As one answer: nearly every token is evidence, those after the cut too.
    assert found.p_value < 1e-8
