"""Streams cut and continued on the real engine, seen through two proxies as two engines."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from serving.provenance import Detector, Keyring
from tests.support.cutting_proxy import CuttingProxy
from tests.support.engine_client import AUTHORIZATION, ENGINE_KEY
from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until

pytestmark = pytest.mark.engine

MODEL = "smollm2-135m-instruct"
END_OF_TURN = "<|im_end|>"
# bf16 has eight bits: logits of 20 differ by .1 when they are neighbours.
NEAR_TIE_NATS = 0.3
QUESTIONS = [
    "Write a short story about a lighthouse.",
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
    running = start_gateway(home, *(proxy.url for proxy in proxies), SIGNET_GATEWAY__ENGINE_API_KEY=ENGINE_KEY)
    wait_until(lambda: answers_ok(f"{running.url}/readyz/engines"), 10, "the engine is up", running.process)
    yield running
    stop_gateway(running)


def cut_next(proxies: list[CuttingProxy], place: int | None) -> None:
    """Only the first of the two streams to get so far is cut."""
    for proxy in proxies:
        proxy.cut_after = place


class Answer:
    """A streamed greedy answer, with the tokens that the client asked to see."""

    def __init__(self, gateway: RunningGateway, question: str) -> None:
        self.text, self.finish, self.num_tokens = "", "", 0
        self.prompt: list[int] = []
        self.ids: list[int] = []
        stream = gateway.client().chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": question}],
            stream=True,
            stream_options={"include_usage": True},
            max_tokens=60,
            temperature=0,
            extra_body={"return_token_ids": True},
        )
        for event in stream:
            self.prompt += (event.model_extra or {}).get("prompt_token_ids") or []
            self.num_tokens = event.usage.completion_tokens if event.usage else self.num_tokens
            for choice in event.choices:
                self.text += choice.delta.content or ""
                self.ids += (choice.model_extra or {}).get("token_ids") or []
                self.finish = choice.finish_reason or self.finish


def widest_gap(engine_url: str, answer: Answer) -> float:
    """By how many nats a token of the answer lies below the likeliest one, at the most."""
    body = {"model": MODEL, "prompt": answer.prompt + answer.ids, "max_tokens": 1, "prompt_logprobs": 1}
    told = httpx.post(f"{engine_url}/v1/completions", json=body, headers=AUTHORIZATION, timeout=60).json()
    places = told["choices"][0]["prompt_logprobs"]
    gaps = [0.0]
    for token, place in zip(answer.ids, places[len(answer.prompt) :], strict=True):
        gaps.append(max(entry["logprob"] for entry in place.values()) - place[str(token)]["logprob"])
    return max(gaps)


# Other places for each question: an answer to each costs seconds.
PLACES = list(zip(QUESTIONS, (1500, 2500), strict=True))


@pytest.mark.parametrize(("question", "first"), PLACES, ids=QUESTIONS)
def test_a_greedy_answer_that_was_cut_is_greedy_up_to_near_ties(
    question: str, first: int, proxies: list[CuttingProxy], gateway: RunningGateway, engine_url: str
) -> None:
    """Prefill and decode round differently, so a near-tie may fall the other way: every token is near the likeliest."""
    for place in range(first, 8_500, 3418):
        before = sum(proxy.num_cut for proxy in proxies)
        cut_next(proxies, place)
        answer = Answer(gateway, question)
        cut_next(proxies, None)

        asked = {"model": MODEL, "tokens": answer.ids}
        whole = httpx.post(f"{engine_url}/detokenize", json=asked, headers=AUTHORIZATION, timeout=60).json()["prompt"]
        assert sum(proxy.num_cut for proxy in proxies) > before
        assert whole.removesuffix(END_OF_TURN) == answer.text
        assert answer.num_tokens == len(answer.ids)
        assert answer.finish == ("stop" if whole.endswith(END_OF_TURN) else "length")
        assert widest_gap(engine_url, answer) < NEAR_TIE_NATS


def test_a_marked_answer_that_was_cut_carries_one_mark(
    proxies: list[CuttingProxy], gateway: RunningGateway, model_folder: Path
) -> None:
    keys = Keyring.open(gateway.home / "keyring.json")
    key = gateway.new_key("--mark", "on")
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, timeout=120)
    cut_next(proxies, 16_000)
    stream = client.chat.completions.create(
        model=MODEL,
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
