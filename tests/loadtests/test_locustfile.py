"""Locust runs as its users run it: headless, as a program. It patches sockets, so it never runs in this process."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from loadtests.benchmarks.gateway import set_pace
from loadtests.tools.processes import REPOSITORY, running
from loadtests.tools.targets import free_port


class Row(NamedTuple):
    requests: int
    failures: int
    median_ms: float


def run_locust(url: str, folder: Path, *options: str, **environment: str) -> tuple[dict[tuple[str, str], Row], str]:
    """A short headless run: Locust's own statistics by (type, name), and what it printed."""
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--host", url, "--headless"]
    command += [
        "--users",
        "4",
        "--spawn-rate",
        "10",
        "--run-time",
        "4s",
        "--stop-timeout",
        "5",
        "--csv",
        str(folder / "out"),
    ]
    done = subprocess.run(
        [*command, *options],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    with (folder / "out_stats.csv").open() as file:
        rows = {
            (row["Type"], row["Name"]): Row(
                int(row["Request Count"]), int(row["Failure Count"]), float(row["Median Response Time"])
            )
            for row in csv.DictReader(file)
        }
    return rows, done.stdout + done.stderr


def test_chat_users_report_ttft_and_gaps_per_tenant(standin_url: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text('{"id": "1", "key": "secret-a", "tenant": "acme"}\nsecret-b\n')
    set_pace(standin_url, 20)
    try:
        rows, printed = run_locust(
            standin_url, tmp_path, "--keys-file", str(keys), "--answer-tokens", "20", "--think-seconds", "0.1"
        )
    finally:
        set_pace(standin_url, 0)

    seen = {name for _, name in rows}
    assert seen & {"chat acme", "chat tenant-2"}
    for name in seen & {"chat acme", "chat tenant-2"}:
        answers, ttft, gap = rows["POST", name], rows["TTFT", name], rows["GAP", name]
        assert answers.requests > 0
        assert answers.failures == 0
        assert ttft.requests >= answers.requests
        assert gap.requests >= answers.requests * 19
        # 20 tokens at 20 ms: the whole answer takes about 380 ms, and its row says so, not the time to the headers.
        assert 10 <= gap.median_ms <= 60
        assert answers.median_ms >= 300
        assert ttft.median_ms < answers.median_ms
    assert "secret" not in printed


def test_chat_users_of_several_tenants_through_the_real_gateway(standin_url: str, tmp_path: Path) -> None:
    home = {"SIGNET_HOME": str(tmp_path / "home")}
    keys = tmp_path / "keys"
    with keys.open("w") as file:
        for tenant in ("acme", "globex"):
            command = [sys.executable, "-m", "signet", "keys", "create", "--tenant", tenant, "--json"]
            subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **home}, stdout=file, check=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "signet", "gateway", "--engine-url", standin_url, "--port", str(port)]
    with running("gateway", command, tmp_path, env=home) as gateway:
        gateway.wait_ready(f"{url}/readyz/engines", {})

        rows, printed = run_locust(url, tmp_path, "--keys-file", str(keys), "--think-seconds", "0.1")

    names = {name for kind, name in rows if kind == "TTFT"}
    assert names
    assert names <= {"chat acme", "chat globex"}
    assert all(row.failures == 0 for row in rows.values()), printed
    assert all(rows["POST", name].requests > 0 for name in names)
    assert "sk-signet-" not in printed


def test_refusals_are_failures_under_their_code(tmp_path: Path, refusing_url: str) -> None:
    rows, printed = run_locust(refusing_url, tmp_path, "--chat-model", "m", "--think-seconds", "0")

    row = rows["POST", "chat no-key"]
    assert row.failures == row.requests > 0
    # Four users that wait the second they were told to, for four seconds: without it there were thousands.
    assert row.requests <= 30
    assert "429 rate_limited" in printed


@pytest.fixture
def refusing_url(tmp_path: Path):
    """A server that always says 429, to be asked again in a second."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Refuse(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            body = json.dumps({"error": {"code": "rate_limited", "message": "slow down"}}).encode()
            self.send_response(429)
            self.send_header("content-length", str(len(body)))
            self.send_header("retry-after", "1")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
