"""Marks made by the real engine, read by both detectors; and everything the plugin must not disturb."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from vllm.v1.watermarking import GumbelWatermarkDetector

from serving.provenance import Detector, Keyring, MarkKey

pytestmark = pytest.mark.engine

QUESTION = "Write a long story about a lighthouse keeper."


@pytest.fixture(scope="module")
def ring(keyring_path: Path) -> Keyring:
    return Keyring.open(keyring_path)


@pytest.fixture(scope="module")
def key(ring: Keyring) -> MarkKey:
    """Of a tenant the running engine has never heard of: a new tenant needs no restart."""
    return ring.mark_key("plugin-test")


@pytest.fixture(scope="module")
def detector(model_folder: Path) -> Detector:
    return Detector(model_folder)


class Asker:
    """Sends chats to the engine itself, as the gateway would."""

    def __init__(self, client: httpx.Client, key: MarkKey) -> None:
        self.client = client
        self.model = self.client.get("/v1/models").json()["data"][0]["id"]
        self.mark = {"signet_mark": "gumbel", "signet_key": key.id}

    def post(self, marked: bool = True, **fields: Any) -> httpx.Response:
        body = {"model": self.model, "messages": [{"role": "user", "content": QUESTION}], "return_token_ids": True}
        return self.client.post(
            "/v1/chat/completions", json={**body, **({"vllm_xargs": self.mark} if marked else {}), **fields}
        )

    def choices(self, marked: bool = True, **fields: Any) -> list[dict[str, Any]]:
        response = self.post(marked, **fields)
        assert response.status_code == 200, response.text
        choices: list[dict[str, Any]] = response.json()["choices"]
        return choices


@pytest.fixture(scope="module")
def engine(engine_url: str, key: MarkKey) -> Iterator[Asker]:
    with httpx.Client(base_url=engine_url, timeout=120) as client:
        yield Asker(client, key)


@pytest.mark.parametrize(
    "sampling",
    [
        pytest.param({"temperature": 1.0}, id="plain"),
        pytest.param({"temperature": 1.0, "top_p": 0.9}, id="top-p"),
        pytest.param({"temperature": 0.9, "top_k": 50, "top_p": 0.95}, id="top-k"),
        pytest.param({"temperature": 1.0, "min_p": 0.05}, id="min-p"),
        pytest.param({"temperature": 1.0, "repetition_penalty": 1.2, "presence_penalty": 0.5}, id="penalties"),
        pytest.param({"temperature": 1.0, "seed": 11}, id="seed"),
    ],
)
def test_both_detectors_read_a_marked_answer(
    engine: Asker, key: MarkKey, ring: Keyring, detector: Detector, sampling: dict[str, Any]
) -> None:
    (choice,) = engine.choices(min_tokens=150, max_tokens=150, **sampling)
    text, token_ids = choice["message"]["content"], choice["token_ids"]

    theirs = GumbelWatermarkDetector(key.seed).detect(token_ids)
    ours = detector.detect_text(text, ring.keys())

    assert theirs.is_watermarked
    assert theirs.p_value < 1e-5
    assert ours.marked
    assert (ours.key_id, ours.tenant) == (key.id, "plugin-test")
    wrong = ring.mark_key("plugin-test-other")
    assert not detector.detect_text(text, [wrong]).marked
    assert GumbelWatermarkDetector(wrong.seed).detect(token_ids).p_value > 1e-3


def test_neither_detector_sees_a_mark_where_none_was_asked_for(engine: Asker, key: MarkKey, detector: Detector) -> None:
    (choice,) = engine.choices(marked=False, max_tokens=150, temperature=1.0)

    assert GumbelWatermarkDetector(key.seed).detect(choice["token_ids"]).p_value > 1e-3
    assert not detector.detect_text(choice["message"]["content"], [key]).marked


def test_a_streamed_answer_is_marked(engine: Asker, key: MarkKey, detector: Detector) -> None:
    lines = engine.post(stream=True, max_tokens=120, min_tokens=120, temperature=1.0).text.splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])

    assert detector.detect_text(text, [key]).marked


def test_n_answers_differ_and_each_is_marked(engine: Asker, key: MarkKey, detector: Detector) -> None:
    choices = engine.choices(n=4, seed=1, min_tokens=120, max_tokens=120, temperature=1.0)
    texts = [choice["message"]["content"] for choice in choices]

    # One pair in a hundred shares its opening and goes on alike.
    assert len(set(texts)) >= 3
    assert all(detector.detect_text(text, [key]).marked for text in texts)


def test_the_same_seed_gives_the_same_answer(engine: Asker) -> None:
    first, second = (engine.choices(seed=23, max_tokens=40, temperature=1.0)[0]["token_ids"] for _ in range(2))

    assert first == second


def test_greedy_answers_are_vllms_own(engine: Asker) -> None:
    marked, unmarked = (
        engine.choices(marked, max_tokens=40, temperature=0)[0]["token_ids"] for marked in (True, False)
    )

    assert marked == unmarked


def test_an_unmarked_answer_of_one_seed_is_the_same_after_a_marked_one(engine: Asker) -> None:
    """A request without a mark is vLLM's own sampling, whoever asked before."""
    alone = engine.choices(False, seed=5, max_tokens=30, temperature=1.0)[0]["token_ids"]

    both = [engine.choices(marked, seed=5, max_tokens=30, temperature=1.0)[0]["token_ids"] for marked in (True, False)]

    assert both[1] == alone
    assert both[0] != alone


def test_logprobs_are_the_models_own(engine: Asker) -> None:
    """Taken before the plugin: the chosen token keeps its probability, and others keep theirs."""
    (choice,) = engine.choices(max_tokens=20, temperature=1.0, logprobs=True, top_logprobs=3)
    tokens = choice["logprobs"]["content"]

    assert len(tokens) == len(choice["token_ids"])
    assert any(token["logprob"] < -0.1 for token in tokens)
    assert all(-100 < top["logprob"] <= 0 for token in tokens for top in token["top_logprobs"])


def test_a_marked_answer_keeps_to_its_grammar(engine: Asker) -> None:
    (choice,) = engine.choices(structured_outputs={"regex": "(red|green|blue)( [0-9]{3}){8}"}, temperature=1.0)

    assert re.fullmatch("(red|green|blue)( [0-9]{3}){8}", choice["message"]["content"])


@pytest.mark.parametrize(
    "arguments",
    [
        {"signet_mark": "nobody", "signet_key": "mk1-00000000000000000000"},
        {"signet_mark": "gumbel"},
        {"signet_mark": "gumbel", "signet_key": "mk1-00000000000000000000"},
        {"signet_mark": "gumbel", "signet_key": "acme"},
        {"signet_mark": "gumbel", "signet_key": 7},
        {"signet_mark": ["gumbel"], "signet_key": "mk1-00000000000000000000"},
        {"signet_key": "mk1-00000000000000000000"},
        {"signet_mark": "gumbel", "signet_key": "\x00" * 5000},
    ],
)
def test_bad_arguments_are_a_400_and_the_engine_lives(engine: Asker, arguments: dict[str, Any]) -> None:
    response = engine.post(vllm_xargs=arguments, max_tokens=2)

    assert response.status_code == 400, response.text
    assert "signet_" in response.json()["error"]["message"] or "vllm_xargs" in response.json()["error"]["message"]
    assert engine.post(marked=False, max_tokens=1).status_code == 200


def test_metrics_say_that_the_engine_marks(engine: Asker) -> None:
    assert (
        'signet_engine_plugin_info{schemes="gumbel,dual-gumbel,kgw,synthid,kgw-lefthash"} 1.0'
        in engine.client.get("/metrics").text
    )
