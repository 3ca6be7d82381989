"""The programs that `make bench` compares: how each is started in front of one engine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.tools.processes import REPOSITORY, ProgramError

_BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Target:
    """One program in front of the engine: the command, and how to talk to it."""

    name: str
    command: list[str]
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    ready_path: str = "/v1/models"


# Makes a target: takes the engine's URL and a folder to keep files in. Raises ProgramError where it cannot.
Factory = Callable[[str, Path], Target]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def signet_gateway(engine_url: str, folder: Path, checkout: Path = REPOSITORY) -> Target:
    """The gateway as it is by default: keys, limits, guard, ledger, metrics, and a receipt on record for every answer.

    `checkout`: the folder of Signet's source.
    """
    return _signet("signet", engine_url, folder, {"PYTHONPATH": str(checkout)})


def signet_without_receipts(engine_url: str, folder: Path) -> Target:
    """The same without receipts, for none of the others signs anything."""
    return _signet("signet, no receipts", engine_url, folder, {"SIGNET_RECEIPTS__ENABLED": "false"})


def _signet(name: str, engine_url: str, folder: Path, settings: Mapping[str, str]) -> Target:
    # Signet is what stands in the environment, not in the folder that programs are started in.
    signet = [sys.executable, "-P", "-m", "signet"]
    home = folder / name.replace(", ", "-").replace(" ", "-")
    home.mkdir()
    # A start at the top spares the adaptive limit a climb that would be measured as waiting.
    env = {
        "PYTHONPATH": str(REPOSITORY),
        "SIGNET_HOME": str(home),
        "SIGNET_GATEWAY__ADMISSION__CONCURRENCY": "16384",
        **settings,
    }
    command = [*signet, "keys", "create", "--tenant", "bench", "--json"]
    made = subprocess.run(
        command, env={**os.environ, **env}, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        lines = made.stderr.strip().splitlines() or ["it printed nothing"]
        raise ProgramError(f"`signet keys create` failed: {lines[-1]}")
    key = json.loads(made.stdout)["key"]
    port = free_port()
    command = [*signet, "gateway", "--engine-url", engine_url, "--port", str(port)]
    return Target(name, command, f"http://127.0.0.1:{port}", {"authorization": f"Bearer {key}"}, env)


def vllm_router(policy: str) -> Factory:
    """vLLM's own router (Rust) by one of its policies; `cache_aware` is its default."""

    def target(engine_url: str, folder: Path) -> Target:
        command = _installed("vllm-router", "pip install vllm-router==0.1.17")
        port = free_port()
        command += ["--host", "127.0.0.1", "--port", str(port), "--worker-urls", engine_url]
        command += ["--policy", policy, "--prometheus-port", str(free_port()), "--log-level", "error"]
        return Target(f"vllm-router {policy}", command, f"http://127.0.0.1:{port}", ready_path="/health")

    return target


def pass_through(factory: str, label: str) -> Factory:
    """One of `loadtests.tools.passthrough` under one uvicorn worker."""

    def target(engine_url: str, folder: Path) -> Target:
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "--factory", f"loadtests.tools.passthrough:{factory}"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop", "--http", "httptools"]
        command += ["--no-access-log", "--log-level", "warning"]
        return Target(label, command, f"http://127.0.0.1:{port}", env={"UPSTREAM": engine_url})

    return target


def granian(factory: str, label: str) -> Factory:
    """One of `loadtests.tools.passthrough` under one granian worker."""

    def target(engine_url: str, folder: Path) -> Target:
        command = _installed("granian", "pip install granian")
        port = free_port()
        command += ["--interface", "asgi", "--factory", f"loadtests.tools.passthrough:{factory}", "--loop", "uvloop"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--http", "1", "--no-ws", "--workers", "1"]
        command += ["--no-access-log", "--log-level", "warning"]
        return Target(label, command, f"http://127.0.0.1:{port}", env={"UPSTREAM": engine_url})

    return target


def nginx(engine_url: str, folder: Path) -> Target:
    """One nginx worker: the floor of any proxy."""
    command = _installed("nginx", "apt-get install nginx-light")
    port = free_port()
    home = folder / "nginx"
    home.mkdir()
    (home / "nginx.conf").write_text(_NGINX_CONF.format(home=home, port=port, engine=engine_url.split("//")[1]))
    command += ["-p", str(home), "-c", str(home / "nginx.conf"), "-e", "stderr"]
    return Target("nginx", command, f"http://127.0.0.1:{port}")


# Name in --only -> how to make it. Ours first, then by what a reader compares it with.
TARGETS: dict[str, Factory] = {
    "gateway": signet_gateway,
    "gateway-without-receipts": signet_without_receipts,
    "vllm-router": vllm_router("round_robin"),
    "vllm-router-default": vllm_router("cache_aware"),
    "nginx": nginx,
    "asgi-pooled": pass_through("asgi_pooled", "bare ASGI + our client"),
    "asgi-aiohttp": pass_through("asgi_aiohttp", "bare ASGI + aiohttp"),
    "fastapi-aiohttp": pass_through("fastapi_aiohttp", "FastAPI + aiohttp"),
    "fastapi-httpx": pass_through("fastapi_httpx", "FastAPI + httpx"),
}


def chosen(names: Iterable[str]) -> dict[str, Factory]:
    """The named targets, or all. Raises KeyError with the unknown name."""
    names = list(names)
    return {name: TARGETS[name] for name in names} if names else dict(TARGETS)


def _installed(name: str, remedy: str) -> list[str]:
    found = shutil.which(name, path=f"{_BIN}:/usr/sbin:{os.environ.get('PATH', '')}")
    if found is None:
        raise ProgramError(f"{name} is not installed ({remedy})")
    return [found]


_NGINX_CONF = """\
daemon off;
worker_processes 1;
pid {home}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  upstream engine {{ server {engine}; keepalive 256; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port};
    keepalive_requests 10000000;
    location / {{
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""
