"""Marks made by the real engine, read by both detectors; and everything the plugin must not disturb."""

import json
from pathlib import Path
from typing import Any

import pytest
from vllm.v1.watermarking import GumbelWatermarkDetector

from serving.gateway.engines.load import parse_sampling
from serving.provenance import Detector, MarkKey
from tests.support.engine_client import EngineClient

pytestmark = pytest.mark.engine


def test_neither_detector_sees_a_mark_where_none_was_asked_for(
    engine: EngineClient, key: MarkKey, detector: Detector
) -> None:
    (choice,) = engine.choices(None, max_tokens=80, temperature=1.0)

    assert GumbelWatermarkDetector(key.seed).detect(choice["token_ids"]).p_value > 1e-3
    assert not detector.detect_text(choice["message"]["content"], [key]).marked


def test_a_streamed_answer_is_its_tenants(
    engine: EngineClient, key: MarkKey, stranger: MarkKey, detector: Detector
) -> None:
    lines = engine.post(stream=True, max_tokens=80, min_tokens=80, temperature=1.0).text.splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])

    found = detector.detect_text(text, [stranger, key])

    assert found.marked
    assert (found.key_id, found.tenant) == (key.id, "plugin-test")


def test_the_same_seed_gives_the_same_answer(engine: EngineClient) -> None:
    first, second = (engine.choices(seed=23, max_tokens=24, temperature=1.0)[0]["token_ids"] for _ in range(2))

    assert first == second


@pytest.mark.parametrize("scheme", ["gumbel", None])
def test_a_seeded_prompt_that_is_read_in_several_steps(engine: EngineClient, scheme: str | None) -> None:
    """More than 2,048 tokens, all that vLLM reads at once."""
    question = f"{scheme}: " + "the sea, the light and the keeper; " * 250

    response = engine.post(
        scheme, seed=3, temperature=1.0, max_tokens=2, messages=[{"role": "user", "content": question}]
    )

    assert response.status_code == 200, response.text
    assert response.json()["usage"]["prompt_tokens"] > 2048


def test_greedy_answers_are_vllms_own(engine: EngineClient) -> None:
    marked, unmarked = (
        engine.choices(scheme, max_tokens=24, temperature=0)[0]["token_ids"] for scheme in ("gumbel", None)
    )

    assert marked == unmarked


def test_an_unmarked_answer_of_one_seed_is_the_same_after_a_marked_one(engine: EngineClient) -> None:
    """A request without a mark is vLLM's own sampling, whoever asked before."""
    alone = engine.choices(None, seed=5, max_tokens=16, temperature=1.0)[0]["token_ids"]

    both = [
        engine.choices(scheme, seed=5, max_tokens=16, temperature=1.0)[0]["token_ids"] for scheme in ("gumbel", None)
    ]

    assert both[1] == alone
    assert both[0] != alone


@pytest.mark.parametrize(
    "arguments",
    [
        {"signet_mark": "nobody", "signet_key": "mk1-00000000000000000000"},
        {"signet_mark": "gumbel"},
        {"signet_mark": "gumbel", "signet_key": "mk1-00000000000000000000"},
        {"signet_mark": "gumbel", "signet_key": "acme"},
        {"signet_mark": "gumbel", "signet_key": "mk1-00000000000000000000.00000000000000000000000000000000"},
        {"signet_mark": "gumbel", "signet_key": 7},
        {"signet_mark": ["gumbel"], "signet_key": "mk1-00000000000000000000"},
        {"signet_key": "mk1-00000000000000000000"},
        {"signet_mark": "gumbel", "signet_key": "\x00" * 5000},
    ],
)
def test_bad_arguments_are_a_400_and_the_engine_lives(engine: EngineClient, arguments: dict[str, Any]) -> None:
    response = engine.post(vllm_xargs=arguments, max_tokens=2)

    assert response.status_code == 400, response.text
    assert "signet_" in response.json()["error"]["message"] or "vllm_xargs" in response.json()["error"]["message"]
    assert engine.post(None, max_tokens=1).status_code == 200


def test_metrics_say_that_the_engine_marks(engine: EngineClient) -> None:
    assert (
        'signet_engine_plugin_info{schemes="gumbel,dual-gumbel,kgw,synthid,kgw-lefthash"} 1.0'
        in engine.http.get("/metrics").text
    )


def test_metrics_say_how_the_engine_samples_by_its_models_files(engine: EngineClient, model_folder: Path) -> None:
    own = json.loads((model_folder / "generation_config.json").read_text())

    told = parse_sampling(engine.http.get("/metrics").content)

    assert told == {name: own[name] for name in ("temperature", "top_k", "top_p", "min_p") if name in own}
    assert told
