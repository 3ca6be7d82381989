"""Detection over HTTP: who may see which scores, batches, spans, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from serving.provenance import Keyring
from serving.provenance.schemes.gumbel import uniforms
from tests.support.gateways import RunningGateway, start_gateway, stop_gateway

PLAIN = " ".join(f"w{n}" for n in range(80))


@pytest.fixture(scope="module")
def detecting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One gateway for all, whose engine is away: detection needs none. Tests use tenants of their own."""
    home = tmp_path_factory.mktemp("detecting")
    folder = home / "model"
    folder.mkdir()
    words = {f"w{n}": n for n in range(500)} | {"?": 500}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"SIGNET_GATEWAY__MODEL_FOLDERS": json.dumps({"words": str(folder)})}
    gateway = start_gateway(home, "http://127.0.0.1:9", **settings)
    yield gateway
    stop_gateway(gateway)


def ask(gateway: RunningGateway, key: str, **fields: Any) -> httpx.Response:
    body = {"text": PLAIN} | fields
    return httpx.post(
        f"{gateway.url}/v1/provenance/detect",
        json={name: value for name, value in body.items() if value is not None},
        headers={"authorization": f"Bearer {key}"},
        timeout=60,
    )


def detect(gateway: RunningGateway, key: str, **fields: Any) -> Any:
    response = ask(gateway, key, **fields)
    assert response.status_code == 200, response.text
    return response.json()


def marked_text(seed: int, length: int) -> str:
    answer: list[int] = []
    for _ in range(length):
        context = np.tile(np.array(([-1] * 4 + answer)[-4:]), (500, 1))
        answer.append(int(uniforms([seed], context, np.arange(500))[0].argmax()))
    return " ".join(f"w{token}" for token in answer)


@pytest.fixture
def keyring(detecting: RunningGateway) -> Keyring:
    return Keyring.open(detecting.home / "keyring.json")


def test_a_tenant_sees_its_own_keys_and_an_admin_all(detecting: RunningGateway, keyring: Keyring) -> None:
    tenant_key = detecting.new_key()  # of tenant acme
    own_keys = {keyring.mark_key("acme").id, keyring.mark_key("acme", "small").id}
    other = keyring.mark_key("default")

    own = detect(detecting, tenant_key)
    everything = detect(detecting, detecting.key)

    assert {score["key_id"] for score in own["keys"]} == own_keys
    assert {score["key_id"] for score in everything["keys"]} >= own_keys | {other.id}
    assert own["marked"] is False
    assert own["tenant"] is None
    assert 0 < own["p_value"] <= 1
    assert own["tokens_scored"] == 80
    assert own["keys_tried"] == 2


def test_a_tenant_cannot_ask_for_anothers_keys(detecting: RunningGateway, keyring: Keyring) -> None:
    tenant_key = detecting.new_key()
    text = marked_text(keyring.mark_key("secretive").seed, 60)

    own = detect(detecting, tenant_key, text=text, tenant="secretive")

    assert own["marked"] is False
    assert all(score["tenant"] == "acme" for score in own["keys"])
    assert detect(detecting, detecting.key, text=text, tenant="secretive")["tenant"] == "secretive"


def test_a_mark_is_found_by_key_scheme_and_model(detecting: RunningGateway, keyring: Keyring) -> None:
    key = keyring.mark_key("baker", "words")

    found = detect(detecting, detecting.key, text=marked_text(key.seed, 60))

    assert found["marked"] is True
    assert found["verdict"] == "marked"
    named = {name: found[name] for name in ("key_id", "tenant", "scheme", "model", "revoked")}
    assert named == {"key_id": key.id, "tenant": "baker", "scheme": "gumbel", "model": "words", "revoked": False}


def test_spans_say_which_part_is_marked(detecting: RunningGateway, keyring: Keyring) -> None:
    key = keyring.mark_key("mixer")
    before, after = PLAIN + " ", " " + " ".join(f"w{n}" for n in range(499, 380, -1))
    text = before + marked_text(key.seed, 80) + after

    (span,) = detect(detecting, detecting.key, text=text)["spans"]

    assert span["key_id"] == key.id
    # Chance lengthens a part by a dozen words now and then: keys are fresh in each run.
    assert abs(span["start"] - len(before)) < 120
    assert abs(span["end"] - (len(text) - len(after))) < 120
    assert detect(detecting, detecting.key, text=text, spans=False)["spans"] == []


def test_a_batch_has_a_result_for_each_text(detecting: RunningGateway, keyring: Keyring) -> None:
    texts = [PLAIN, marked_text(keyring.mark_key("batch").seed, 60)]

    results = detect(detecting, detecting.key, text=None, texts=texts)["results"]

    assert [result["marked"] for result in results] == [False, True]


def test_a_revoked_key_is_still_found_and_said_to_be_revoked(detecting: RunningGateway, keyring: Keyring) -> None:
    key = keyring.mark_key("revoked")
    keyring.revoke(key.id)

    found = detect(detecting, detecting.key, text=marked_text(key.seed, 60))

    assert (found["key_id"], found["revoked"]) == (key.id, True)


def test_a_text_that_carries_nothing_is_not_judged(detecting: RunningGateway, keyring: Keyring) -> None:
    keyring.mark_key("default")

    certain = detect(detecting, detecting.key, logprobs=[-0.001] * 80)
    lively = detect(detecting, detecting.key, text=" ".join(f"w{n}" for n in range(400)), logprobs=[-2.0] * 400)

    assert certain["verdict"] == "cannot_tell"
    assert certain["power"] < 0.05
    assert lively["verdict"] == "not_marked"
    assert lively["power"] > 0.99
    assert lively["weighted"] is True


def test_what_a_text_could_show_depends_on_the_temperature_it_was_made_at(
    detecting: RunningGateway, keyring: Keyring
) -> None:
    keyring.mark_key("default")
    known = {
        "text": " ".join(f"w{n}" for n in range(200)),
        "logprobs": [-1.0] * 200,
        "top_logprobs": [[-1.0, -1.5, -1.6, -1.8, -2.3, -2.8]] * 200,
    }

    blind = detect(detecting, detecting.key)
    warm = detect(detecting, detecting.key, **known)
    cold = detect(detecting, detecting.key, **known, temperature=0.05)
    filtered = detect(detecting, detecting.key, **known, top_k=1)

    assert detect(detecting, detecting.key, temperature=1.0, top_p=1.0)["power"] == blind["power"]
    assert [one["power_temperature"] for one in (blind, warm, cold, filtered)] == [None, 1.0, 0.05, 1.0]
    assert warm["power"] > 0.95
    assert cold["power"] < 0.05
    assert filtered["power"] < 0.01


def test_numbers_that_are_none_are_refused(detecting: RunningGateway) -> None:
    response = httpx.post(
        f"{detecting.url}/v1/provenance/detect",
        content=b'{"text": "w1 w2", "logprobs": [NaN, -1.0]}',
        headers={"authorization": f"Bearer {detecting.key}", "content-type": "application/json"},
    )

    assert response.status_code == 400


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"text": ""}, "text"),
        ({"text": "x" * 300_000}, "text"),
        ({"text": None}, "text"),
        ({"texts": ["w1"]}, "text"),
        ({"text": None, "texts": ["w1", ""]}, "texts"),
        ({"text": None, "texts": ["x" * 150_000] * 2}, "texts"),
        ({"text": None, "texts": ["w1"], "logprobs": [0.0]}, "logprobs"),
        ({"logprobs": [-1.0]}, "logprobs"),
        ({"logprobs": [-1.0] * 80, "top_logprobs": [[-1.0]]}, "logprobs"),
        ({"top_logprobs": [[-1.0]] * 80}, "logprobs"),
        ({"logprobs": [-1.0] * 80, "temperature": 0.7}, "temperature"),
        ({"logprobs": [-1.0] * 80, "top_k": 5}, "top_k"),
        ({"top_p": 0.9}, "top_p"),
        ({"schemes": ["rot13"]}, "schemes"),
        ({"schemes": ["gumbel", "gumbel"]}, "schemes"),
        ({"model": "../../etc"}, "model"),
    ],
)
def test_what_cannot_be_scored_is_refused(fields: dict[str, Any], param: str, detecting: RunningGateway) -> None:
    response = ask(detecting, detecting.key, **fields)

    assert response.status_code in (400, 404)
    assert response.json()["error"]["param"] == param


def test_more_than_a_few_seconds_of_work_is_refused(detecting: RunningGateway, keyring: Keyring) -> None:
    root = keyring.mark_key("default").root
    document = json.loads(keyring.path.read_text())
    document["keys"] |= {root.key_id(f"t{number}"): f"t{number}" for number in range(300)}
    keyring.path.write_text(json.dumps(document))

    response = ask(detecting, detecting.key, text="w1 w2 " * 33_000)

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "detection_too_large"
