"""What operators and bad clients do to a gateway that is being asked: nobody else may notice."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.load import EngineProcess, load, metric, more
from tests.support.running import wait_until

MIB = 2**20
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
SETTINGS = "gateway: {{max_choices: {choices}, reload_interval_s: 0.05, drain_delay_s: 0.7, workers: {workers}}}\n"
RELOADS = "signet_gateway_reloads_total{"


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    with EngineProcess.run(step_ms=2) as running:
        yield running


@pytest.fixture
def gateway(engine: EngineProcess, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RunningGateway]:
    (tmp_path / "signet.yaml").write_text(SETTINGS.format(choices=4, workers=getattr(request, "param", 1)))
    running = start_gateway(
        tmp_path, engine.url, SIGNET_GATEWAY__HTTP__SLOW_READER_TIMEOUT_S="1", SIGNET_GATEWAY__HTTP__HEAD_TIMEOUT_S="2"
    )
    wait_until(lambda: metric(running.url, "signet_gateway_engine_up") >= 1, 10, "the engine is up")
    yield running
    if running.process.poll() is None:
        stop_gateway(running)


def connect(gateway: RunningGateway) -> socket.socket:
    """A connection for which the kernel keeps little of what is not read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", int(gateway.url.rpartition(":")[2])))
    return client


def rss_bytes(gateway: RunningGateway) -> int:
    lines = Path(f"/proc/{gateway.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def test_clients_that_stop_reading_hold_neither_memory_nor_others(
    gateway: RunningGateway, engine: EngineProcess
) -> None:
    """Each asks for a stream of 12 MB and reads nothing of it: 240 MB, were they kept."""
    body = b'{"model":"standin","stream":true,"max_tokens":60000,"messages":[{"role":"user","content":"Hi"}]}'
    head = CHAT + f"authorization: Bearer {gateway.key}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    httpx.post(f"{engine.url}/standin/pace?step_ms=0")
    before = rss_bytes(gateway)
    try:
        with ExitStack() as stack, load(gateway.url, gateway.key) as seen:
            more(seen)
            for _ in range(20):
                stack.enter_context(connect(gateway)).sendall(head + body)
            more(seen, 100)
            grown = rss_bytes(gateway) - before
            slow = 'signet_gateway_errors_total{code="slow_reader"}'
            wait_until(lambda: metric(gateway.url, slow) == 20, 15, "all of them have been cut off")
            more(seen)
    finally:
        httpx.post(f"{engine.url}/standin/pace?step_ms=2")
    assert not seen.failed
    assert grown < 80 * MIB
    assert metric(gateway.url, "signet_gateway_in_flight") == 0


def test_a_flood_of_half_open_connections_disturbs_nobody(gateway: RunningGateway) -> None:
    beginnings = [b"", b"P", b"POST /v1/chat/comp", CHAT, CHAT + b"content-length: 100\r\n\r\n{"]
    files_before = len(os.listdir(f"/proc/{gateway.process.pid}/fd"))
    with ExitStack() as stack, load(gateway.url, gateway.key) as seen:
        for number in range(400):
            stack.enter_context(connect(gateway)).sendall(beginnings[number % len(beginnings)])
        more(seen, 100)
    assert not seen.failed
    wait_until(
        lambda: len(os.listdir(f"/proc/{gateway.process.pid}/fd")) < files_before + 30, 15, "their sockets are closed"
    )


@pytest.mark.parametrize("gateway", [1, 2], indirect=True, ids=["one process", "two workers"])
def test_reloads_fail_no_request(gateway: RunningGateway) -> None:
    """Good files and bad ones in turn."""
    file = gateway.home / "signet.yaml"
    workers = 2 if "workers: 2" in file.read_text() else 1

    def reloads(result: str) -> float:
        lines = httpx.get(f"{gateway.url}/metrics", timeout=10).text.splitlines()
        chosen = [line for line in lines if line.startswith(RELOADS) and f'result="{result}"' in line]
        return min((float(line.rpartition(" ")[2]) for line in chosen), default=0) if len(chosen) >= workers else 0

    def write(text: str, result: str) -> None:
        before = reloads(result)
        file.write_text(text)
        wait_until(lambda: reloads(result) > before, 30, f"the file is {result}")

    with load(gateway.url, gateway.key) as seen:
        for choices in (5, 6, 7):
            write(SETTINGS.format(choices=choices, workers=workers), "done")
            write(SETTINGS.replace("max_choices", "max_choises").format(choices=choices, workers=workers), "refused")
            more(seen, 10)
    assert not seen.failed


@pytest.mark.parametrize("gateway", [2], indirect=True, ids=["two workers"])
def test_a_killed_worker_takes_only_its_own_answers_along(gateway: RunningGateway, engine: EngineProcess) -> None:
    pid = gateway.process.pid
    first, second = (int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    with load(gateway.url, gateway.key, num_clients=16) as seen:
        more(seen, 40)
        os.kill(first, signal.SIGKILL)
        more(seen, 200)
    survivors = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert str(second) in survivors
    assert len(survivors) == 2
    assert set(seen.failed) <= {"cut"}
    assert seen.outcomes["cut"] <= 16, "at most what every client had open"


@pytest.mark.parametrize("gateway", [1, 2], indirect=True, ids=["one process", "two workers"])
def test_sigterm_under_load_completes_every_answer(gateway: RunningGateway) -> None:
    """Clients come until the load balancer has seen that the gateway drains."""
    # Without pauses: on a fast machine all clients would pause at once, and nothing be open at the signal.
    with load(gateway.url, gateway.key, num_clients=16, pause_s=0) as seen:
        more(seen, 40)
        gateway.process.terminate()
        wait_until(lambda: httpx.get(f"{gateway.url}/readyz").status_code == 503, 5, "the gateway says that it drains")
    assert gateway.process.wait(15) == 0
    assert not seen.failed
    assert seen.outcomes["complete"] > 40
