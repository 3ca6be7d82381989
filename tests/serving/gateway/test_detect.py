"""Detection over HTTP: who may see which scores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateways import RunningGateway, start_gateway, stop_gateway
from scripted import ScriptedEngine
from tokenizers import Tokenizer, models, pre_tokenizers

from serving.provenance import Keyring


@pytest.fixture
def detecting(engine: ScriptedEngine, tmp_path: Path) -> Iterator[RunningGateway]:
    folder = tmp_path / "model"
    folder.mkdir()
    words = {f"w{n}": n for n in range(500)} | {"?": 500}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"SIGNET_GATEWAY__MODEL_FOLDERS": json.dumps({"words": str(folder)})}
    gateway = start_gateway(tmp_path, engine.url, **settings)
    yield gateway
    stop_gateway(gateway)


def detect(gateway: RunningGateway, key: str, text: str = " ".join(f"w{n}" for n in range(80))) -> Any:
    return httpx.post(
        f"{gateway.url}/v1/provenance/detect", json={"text": text}, headers={"authorization": f"Bearer {key}"}
    )


def test_a_tenant_sees_its_own_key_and_an_admin_all(detecting: RunningGateway, tmp_path: Path) -> None:
    tenant_key = detecting.new_key()  # of tenant acme
    keyring = Keyring.open(tmp_path / "keyring.json")

    response = detect(detecting, tenant_key)
    assert response.status_code == 200, response.text
    own = response.json()
    everything = detect(detecting, detecting.key).json()

    assert [score["key_id"] for score in own["keys"]] == [keyring.mark_key("acme").id]
    assert {score["tenant"] for score in everything["keys"]} == {"acme", "default"}
    assert own["marked"] is False
    assert own["tenant"] is None
    assert 0 < own["p_value"] <= 1
    assert own["tokens_scored"] == 80


@pytest.mark.parametrize("text", ["", "x" * 300_000])
def test_a_text_that_cannot_be_scored_is_refused(text: str, detecting: RunningGateway) -> None:
    response = detect(detecting, detecting.key, text)

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "text"
