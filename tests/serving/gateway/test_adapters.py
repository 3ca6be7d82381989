"""LoRA adapters at the gateway: who may load one, what engines are told, what clients and receipts see."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.gateway.app import GatewayApp
from serving.gateway.build import build
from serving.gateway.process.listen import bind
from serving.http.server import Server
from serving.identity import Identity
from serving.settings import load_settings
from tests.serving.gateway.engines.pools import eventually
from tests.support.running import free_port
from tests.support.scripted import ScriptedEngine, SeenRequest, answer, whole
from training.registry import Checkpoint, CheckpointRef, ManifestDraft, Registry


class LoraEngine(ScriptedEngine):
    """Loads and unloads as vLLM behind our gate does: names are refused twice, cards and checkpoints are shown."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.loaded: dict[str, str] = {}
        self.refusal = ""
        self.script = self._respond
        self.restart()

    def restart(self) -> None:
        self.loaded.clear()
        self._show()

    def _respond(self, request: SeenRequest) -> list[object]:
        if request.target == "/v1/load_lora_adapter":
            name = request.body["lora_name"]
            if self.refusal or name in self.loaded:
                return whole({"error": {"message": self.refusal or "has already been loaded"}}, 400)
            self.loaded[name] = request.body["lora_path"]
        elif request.target == "/v1/unload_lora_adapter":
            del self.loaded[request.body["lora_name"]]
        self._show()
        return whole(answer(f"as {request.body.get('model')}"))

    def _show(self) -> None:
        cards: list[dict[str, Any]] = [{"id": "base"}, *({"id": name, "parent": "base"} for name in self.loaded)]
        self.fixed_paths["/v1/models"] = json.dumps({"data": cards}).encode()
        shown = {"base": self.base, **self.loaded}
        self.fixed_paths["/metrics"] = "".join(
            f'signet_engine_manifest_info{{manifest="{digest}",model="{name}"}} 1.0\n' for name, digest in shown.items()
        ).encode()


class Running:
    """A gateway of two such engines, with a registry of a base and its adapter's versions."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.registry = Registry(home / "registry", home / "keys")
        self.base = self.register("base", ManifestDraft(kind="base"), b"base")
        draft = ManifestDraft(kind="adapter", base=CheckpointRef(ref=self.base.ref, digest=self.base.digest))
        self.versions = [self.register("desk", draft, weights) for weights in (b"first", b"second")]
        self.engines = [LoraEngine(self.base.digest) for _ in range(2)]
        self.settings = load_settings(
            overrides={
                "home": home,
                "gateway": {
                    "engine_urls": [engine.url for engine in self.engines],
                    "port": free_port(),
                    "probe_interval_s": 0.1,
                },
            },
            environment={},
        )
        identity = Identity(self.settings.database_url)
        self.admin = identity.create_key("ops", admin=True).key
        self.user = identity.create_key("acme").key
        self.stranger = identity.create_key("other", models=["base"]).key
        identity.close()
        self.app: GatewayApp = build(self.settings, reload=list)

    def register(self, name: str, draft: ManifestDraft, weights: bytes, **config: object) -> Checkpoint:
        folder = self.home / f"made-{name}"
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_bytes(weights)
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, **config}))
        return self.registry.register(folder, name, draft)

    async def ask(self, method: str, path: str, key: str, **body: object) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{self.settings.gateway.port}{path}"
        headers = {"authorization": f"Bearer {key}", "x-signet-receipt": "on"}
        async with httpx.AsyncClient(headers=headers, timeout=20) as client:
            found = await client.request(method, url, json=body or None)
        self.headers = found.headers
        return found.status_code, found.json()

    async def chat(self, model: str, key: str) -> tuple[int, Any]:
        messages = [{"role": "user", "content": "Hello"}]
        return await self.ask("POST", "/v1/chat/completions", key, model=model, messages=messages)

    async def models(self) -> set[str]:
        _, shown = await self.ask("GET", "/v1/models", self.user)
        return {card["id"] for card in shown["data"]}

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        return [
            (seen.target.removeprefix("/v1/"), seen.body)
            for engine in self.engines
            for seen in engine.seen
            if "lora" in seen.target
        ]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path / "home")
    yield made
    for engine in made.engines:
        engine.stop()


@pytest.fixture
async def running(made: Running) -> AsyncIterator[Running]:
    [listener] = bind(made.settings.gateway)
    http = made.settings.gateway.http
    server = Server(made.app.served(), http, max_body_bytes=made.settings.gateway.max_body_bytes)
    await server.start([listener])
    await eventually(lambda: all(engine.up for engine in made.app.pipeline.answer.pool.engines), "engines are up")
    yield made
    await server.drain(5)
    await server.stop()


async def test_an_adapter_is_loaded_asked_replaced_and_unloaded(running: Running) -> None:
    first, second = running.versions
    status, view = await running.ask("PUT", "/admin/adapters/desk", running.admin, version=1)
    assert (status, view["digest"]) == (200, first.digest)
    assert [engine["state"] for engine in view["engines"]] == ["loaded", "loaded"]
    assert running.told() == [("load_lora_adapter", {"lora_name": "desk@1", "lora_path": first.digest})] * 2

    assert await running.models() == {"base", "desk", "desk@1"}
    status, answered = await running.chat("desk", running.user)
    assert (status, answered["choices"][0]["message"]["content"]) == (200, "as desk@1")
    payload = running.headers["x-signet-receipt"].split(".")[1]
    statement = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert (statement["manifest"], statement["model"]) == (first.digest, "desk@1")
    assert (await running.chat("desk", running.stranger))[0] == 403

    await running.ask("PUT", "/admin/adapters/desk", running.admin)  # the newest
    assert [engine.loaded for engine in running.engines] == [{"desk@2": second.digest}] * 2
    assert (await running.chat("desk", running.user))[1]["choices"][0]["message"]["content"] == "as desk@2"

    assert await running.ask("DELETE", "/admin/adapters/desk", running.admin) == (200, {"data": []})
    assert [engine.loaded for engine in running.engines] == [{}, {}]
    assert (await running.chat("desk", running.user))[0] == 404
    assert (await running.ask("DELETE", "/admin/adapters/desk", running.admin))[0] == 404


async def test_an_engine_that_starts_anew_gets_it_too(running: Running) -> None:
    await running.ask("PUT", "/admin/adapters/desk", running.admin)
    one, _ = running.engines

    one.fixed_paths.pop("/health")
    engine = running.app.pipeline.answer.pool.engines[0]
    engine.mark_down("it was killed")
    one.restart()
    one.fixed_paths["/health"] = b""

    await eventually(lambda: one.loaded == {"desk@2": running.versions[1].digest}, "the adapter is there again")
    assert [engine.loaded for engine in running.engines] == [{"desk@2": running.versions[1].digest}] * 2
    assert (await running.chat("desk", running.user))[1]["choices"][0]["message"]["content"] == "as desk@2"


async def test_what_an_engine_refuses_is_said_and_the_other_answers(running: Running) -> None:
    running.engines[0].refusal = "LoRA rank 64 is greater than max_lora_rank 32."

    _, view = await running.ask("PUT", "/admin/adapters/desk", running.admin)

    assert [engine["state"] for engine in view["engines"]] == ["refused", "loaded"]
    assert view["engines"][0]["reason"] == "status 400: LoRA rank 64 is greater than max_lora_rank 32."
    assert (await running.chat("desk", running.user))[1]["choices"][0]["message"]["content"] == "as desk@2"


async def test_nobody_but_an_administrator_loads_and_nothing_that_does_not_verify(running: Running) -> None:
    registry, drafted = running.registry, running.versions[1].manifest
    draft = ManifestDraft(kind="adapter", base=drafted.base)
    running.register("scaled", draft, b"dora", use_dora=True)
    (registry.root / "desk" / "2" / "adapter_model.safetensors").write_bytes(b"forged")

    async def refused(path: str, key: str, **body: object) -> tuple[int, str]:
        status, said = await running.ask("PUT", f"/admin/adapters/{path}", key, **body)
        return status, said["error"]["code"]

    assert (await refused("desk", running.user, version=1))[0] == 403
    assert await refused("desk", running.admin, version=2) == (400, "adapter_refused")
    assert await refused("base", running.admin, version=1) == (400, "adapter_refused")
    assert await refused("scaled", running.admin, version=1) == (400, "adapter_refused")
    assert (await refused("nobody", running.admin, version=1))[0] == 404
    assert (await refused("desk@1", running.admin, version=1))[0] == 404
    assert (await refused("desk", running.admin, version="one"))[0] == 400
    assert not running.told()


async def test_the_command_line_loads_what_running_gateways_then_serve(
    running: Running, run_signet: Callable[..., str]
) -> None:
    assert run_signet(running.home, "adapters", "load", "desk@1") == "desk@1 is to be served as desk\n"
    await eventually(lambda: all("desk@1" in engine.loaded for engine in running.engines), "both have it")
    assert running.versions[0].digest in run_signet(running.home, "adapters", "list")

    run_signet(running.home, "adapters", "unload", "desk")
    await eventually(lambda: not any(engine.loaded for engine in running.engines), "neither has it")


@pytest.fixture
def run_signet() -> Callable[..., str]:
    from click.testing import CliRunner

    from signet import cli

    def run(home: Path, *arguments: str) -> str:
        done = CliRunner(env={"SIGNET_HOME": str(home)}).invoke(cli, arguments)
        assert done.exit_code == 0, done.output
        return done.output

    return run
