"""What stands in front of vLLM: the key, and adapters that are found in the registry and verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY, generate_latest

from serving.engine.gate import VARIABLE, EngineGate, LiveAdapters
from serving.gateway.engines.load import parse_manifests
from training.registry import Checkpoint, CheckpointRef, ManifestDraft, Registry


class Inner:
    """Keeps what is let through, and answers as it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.status = 200

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        assert dict(scope["headers"]).get(b"content-length", b"0") == b"%d" % len(body)
        self.seen.append((scope["path"], json.loads(body) if body else None))
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"Success"})


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry", tmp_path / "keys")


def register(registry: Registry, tmp_path: Path, name: str, draft: ManifestDraft) -> Checkpoint:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8}')
    (folder / "adapter_model.safetensors").write_bytes(name.encode())
    return registry.register(folder, name, draft)


@pytest.fixture
def base(registry: Registry, tmp_path: Path) -> Checkpoint:
    return register(registry, tmp_path, "base", ManifestDraft(kind="base"))


@pytest.fixture
def adapter(registry: Registry, tmp_path: Path, base: Checkpoint) -> Checkpoint:
    draft = ManifestDraft(kind="adapter", base=CheckpointRef(ref=base.ref, digest=base.digest))
    return register(registry, tmp_path, "desk", draft)


@pytest.fixture
def inner() -> Inner:
    return Inner()


@pytest.fixture
def client(inner: Inner, registry: Registry, base: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> httpx.AsyncClient:
    live = LiveAdapters(str(registry.root), str(registry.keys.folder), [base.digest])
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    monkeypatch.setenv(VARIABLE, live.to_variable())
    transport = httpx.ASGITransport(EngineGate(inner))
    return httpx.AsyncClient(transport=transport, base_url="http://engine", headers={"authorization": "Bearer secret"})


def load(checkpoint: Checkpoint, **other: str) -> dict[str, str]:
    return {"lora_name": checkpoint.ref, "lora_path": checkpoint.digest, **other}


def announced() -> dict[str, str]:
    return parse_manifests(generate_latest(REGISTRY))


async def test_an_adapter_that_verifies_is_loaded_from_its_folder_and_announced(
    client: httpx.AsyncClient, inner: Inner, adapter: Checkpoint
) -> None:
    loaded = await client.post("/v1/load_lora_adapter", json=load(adapter, load_inplace="true"))

    assert loaded.status_code == 200
    assert inner.seen == [("/v1/load_lora_adapter", {"lora_name": "desk@1", "lora_path": str(adapter.path)})]
    assert announced() == {"desk@1": adapter.digest}
    await client.post("/v1/unload_lora_adapter", json={"lora_name": "desk@1"})
    assert announced() == {}


async def test_what_vllm_does_not_load_is_not_announced(
    client: httpx.AsyncClient, inner: Inner, adapter: Checkpoint
) -> None:
    inner.status = 400

    await client.post("/v1/load_lora_adapter", json=load(adapter))

    assert announced() == {}


async def test_nothing_else_is_loaded(
    client: httpx.AsyncClient, inner: Inner, adapter: Checkpoint, registry: Registry, tmp_path: Path
) -> None:
    elsewhere = CheckpointRef(ref="other@1", digest="sha256:" + "0" * 64)
    foreign = register(registry, tmp_path, "foreign", ManifestDraft(kind="adapter", base=elsewhere))
    no_adapter = register(registry, tmp_path, "merged", ManifestDraft(kind="merged"))
    asked: list[Any] = [
        load(adapter, lora_path=str(adapter.path)),
        load(adapter, lora_path=foreign.digest),
        load(adapter, lora_name="desk"),
        load(adapter, lora_name="../registry/desk/1"),
        load(foreign),
        load(no_adapter),
        {"lora_name": "desk@1"},
        {"lora_name": 1, "lora_path": 2},
        ["desk@1"],
        "x" * 20_000,
    ]
    for body in asked:
        assert (await client.post("/v1/load_lora_adapter", json=body)).status_code == 400, body
    (adapter.path / "adapter_model.safetensors").write_bytes(b"evil")
    refused = await client.post("/v1/load_lora_adapter", json=load(adapter))

    assert "adapter_model.safetensors has changed since it was signed" in refused.json()["error"]["message"]
    assert inner.seen == []


@pytest.mark.parametrize("path", ["/adapters", "/adapters/desk", "/v1/load_lora_adapter"])
async def test_without_live_adapters_no_way_leads_to_one(
    path: str, client: httpx.AsyncClient, inner: Inner, adapter: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    closed = httpx.AsyncClient(
        transport=httpx.ASGITransport(EngineGate(inner)), base_url="http://engine", headers=client.headers
    )

    assert (await closed.post(path, json=load(adapter))).status_code == 404
    assert inner.seen == []


async def test_with_them_only_ours_does(client: httpx.AsyncClient, inner: Inner) -> None:
    assert (await client.post("/adapters", json={"name": "desk", "src": "/tmp"})).status_code == 404
    assert inner.seen == []


async def test_strangers_reach_health_and_metrics_alone(client: httpx.AsyncClient, inner: Inner) -> None:
    for headers in ({"authorization": ""}, {"authorization": "Bearer guess"}, {"authorization": "secret"}):
        for path in ("/invocations", "/adapters", "/v1/load_lora_adapter", "/v1/models", "/tokenize", "/health/x"):
            assert (await client.post(path, headers=headers)).status_code == 401, path
    assert inner.seen == []
    for path in ("/health", "/metrics"):
        assert (await client.get(path, headers={"authorization": ""})).status_code == 200
    assert (await client.post("/tokenize")).status_code == 200


async def test_an_engine_without_a_key_answers_all_and_loads_nothing(
    inner: Inner, adapter: Checkpoint, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    monkeypatch.setenv(VARIABLE, LiveAdapters(str(registry.root), str(registry.keys.folder), []).to_variable())
    client = httpx.AsyncClient(transport=httpx.ASGITransport(EngineGate(inner)), base_url="http://engine")

    assert (await client.post("/v1/completions")).status_code == 200
    assert (await client.post("/v1/load_lora_adapter", json=load(adapter))).status_code == 404
