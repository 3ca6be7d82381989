"""The pass-throughs must deliver what the engine sent, or their figures compare nothing."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from loadtests.tools.client import chat_body
from loadtests.tools.processes import running
from loadtests.tools.targets import Factory, granian, nginx, pass_through, vllm_router

TARGETS: dict[str, Factory] = {
    "httpx": pass_through("asgi_httpx", "httpx"),
    "aiohttp": pass_through("asgi_aiohttp", "aiohttp"),
    "pooled": pass_through("asgi_pooled", "pooled"),
    "granian": granian("asgi_pooled", "granian"),
    "fastapi-httpx": pass_through("fastapi_httpx", "fastapi-httpx"),
    "fastapi-aiohttp": pass_through("fastapi_aiohttp", "fastapi-aiohttp"),
    "vllm-router": vllm_router("round_robin"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_answers_and_streams_come_through_unchanged(name: str, standin_url: str, tmp_path: Path) -> None:
    target = TARGETS[name](standin_url, tmp_path)
    with running(name, target.command, tmp_path, env=target.env) as program:
        program.wait_ready(target.url + target.ready_path, {})

        for body in (chat_body(None), chat_body(16)):
            direct = httpx.post(f"{standin_url}/v1/chat/completions", json=body)
            through = httpx.post(f"{target.url}/v1/chat/completions", json=body)

            assert through.status_code == 200
            assert through.content == direct.content
            assert through.headers["content-type"].partition(";")[0] == direct.headers["content-type"].partition(";")[0]


def test_what_is_not_installed_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)

    with pytest.raises(Exception, match=r"nginx is not installed \(apt-get install nginx-light\)"):
        nginx("http://127.0.0.1:9", tmp_path)
