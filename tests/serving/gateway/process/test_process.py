"""The gateway as processes: workers that die, settings that change, an end that loses nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import wait_until
from tests.support.scripted import ScriptedEngine, answer, stream, whole

CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "Hello."}]}


@pytest.fixture(autouse=True)
def plain_answers(engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(answer("hello"))


def workers_of(gateway: RunningGateway) -> list[int]:
    pid = gateway.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ask(gateway: RunningGateway) -> int:
    """Over a connection of its own, so that the kernel chooses a worker anew."""
    headers = {"authorization": f"Bearer {gateway.key}"}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=CHAT, headers=headers, timeout=20).status_code


def exposition(gateway: RunningGateway) -> str:
    return httpx.get(f"{gateway.url}/metrics", timeout=10).text


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def two_workers(engine: ScriptedEngine, tmp_path: Path) -> Iterator[RunningGateway]:
    gateway = start_gateway(tmp_path, engine.url, SIGNET_GATEWAY__WORKERS="2")
    yield gateway
    if gateway.process.poll() is None:
        stop_gateway(gateway)


def test_workers_share_the_port_and_show_the_metrics_of_all(two_workers: RunningGateway):
    assert len(workers_of(two_workers)) == 2
    wait_until(lambda: httpx.get(f"{two_workers.url}/readyz/engines").status_code == 200, 10, "the engine is up")

    def both_have_answered() -> bool:
        assert ask(two_workers) == 200
        counts = re.findall(
            r'signet_gateway_requests_total\{worker="(\d)",.*status="200"} ([1-9]\d*)', exposition(two_workers)
        )
        return {worker for worker, _ in counts} == {"0", "1"}

    wait_until(both_have_answered, 20, "both workers have answered")


def test_a_killed_worker_is_replaced_and_the_other_goes_on(two_workers: RunningGateway):
    wait_until(lambda: httpx.get(f"{two_workers.url}/readyz/engines").status_code == 200, 10, "the engine is up")
    before = workers_of(two_workers)
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len(set(workers_of(two_workers)) - {before[0]}) == 2, 10, "the worker has a successor")
    # Connections that reached the dead worker's socket wait for its successor: none is refused.
    assert [ask(two_workers) for _ in range(12)] == [200] * 12
    assert before[1] in workers_of(two_workers)


def test_workers_end_when_their_parent_is_killed(two_workers: RunningGateway):
    workers = workers_of(two_workers)
    two_workers.process.kill()
    wait_until(lambda: all(is_gone(pid) for pid in workers), 15, "no worker is left")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{two_workers.url}/healthz")


def test_sigterm_ends_all_workers_with_exit_code_zero(two_workers: RunningGateway):
    workers = workers_of(two_workers)
    assert stop_gateway(two_workers) == 0
    assert all(is_gone(pid) for pid in workers)


def test_workers_that_cannot_start_end_the_gateway_with_one_line(tmp_path: Path):
    (tmp_path / "keyring.json").write_text("no keyring")
    with pytest.raises(BaseException, match="ended with 1"):
        start_gateway(tmp_path, "http://127.0.0.1:9", SIGNET_GATEWAY__WORKERS="2")
    said = (tmp_path / "gateway.log").read_text()
    assert "Error:" in said
    assert "keyring" in said
    assert "Traceback" not in said


@pytest.fixture
def configured(engine: ScriptedEngine, tmp_path: Path) -> Iterator[RunningGateway]:
    (tmp_path / "signet.yaml").write_text("gateway: {max_choices: 4, drain_delay_s: 2, reload_interval_s: 0.1}\n")
    gateway = start_gateway(tmp_path, engine.url)
    wait_until(lambda: httpx.get(f"{gateway.url}/readyz/engines").status_code == 200, 10, "the engine is up")
    yield gateway
    if gateway.process.poll() is None:
        gateway.process.kill()
        gateway.process.wait()


def choices_allowed(gateway: RunningGateway, number: int) -> bool:
    headers = {"authorization": f"Bearer {gateway.key}"}
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", json={**CHAT, "n": number}, headers=headers, timeout=20)
    return answer.status_code == 200


def test_an_edited_file_takes_effect_and_a_bad_one_does_not(configured: RunningGateway):
    file = configured.home / "signet.yaml"
    assert not choices_allowed(configured, 5)
    file.write_text("gateway: {max_choices: 5, drain_delay_s: 2, reload_interval_s: 0.1}\n")
    wait_until(lambda: choices_allowed(configured, 5), 10, "the new limit holds")
    file.write_text("gateway: {max_choices: 6, drain_dellay_s: 2}\n")
    refused = 'signet_gateway_reloads_total{result="refused"} 1.0'
    wait_until(lambda: refused in exposition(configured), 10, "the bad file is counted")
    assert not choices_allowed(configured, 6)
    assert "drain_delay_s" in (configured.home / "gateway.log").read_text()


def test_sighup_reaches_every_worker(engine: ScriptedEngine, tmp_path: Path):
    file = tmp_path / "signet.yaml"
    file.write_text("gateway: {max_choices: 4, workers: 2, reload_interval_s: 0}\n")
    gateway = start_gateway(tmp_path, engine.url)
    try:
        wait_until(lambda: httpx.get(f"{gateway.url}/readyz/engines").status_code == 200, 10, "the engine is up")
        file.write_text("gateway: {max_choices: 5, workers: 2, reload_interval_s: 0}\n")
        gateway.process.send_signal(signal.SIGHUP)
        done = re.compile(r'signet_gateway_reloads_total\{worker="\d",result="done"} 1.0')
        wait_until(lambda: len(done.findall(exposition(gateway))) == 2, 10, "both workers have reloaded")
        assert all(choices_allowed(gateway, 5) for _ in range(8))
    finally:
        stop_gateway(gateway)


def test_sighup_does_not_end_workers_that_start(engine: ScriptedEngine, tmp_path: Path):
    over = threading.Event()

    def hang_up() -> None:
        while not over.wait(0.1):
            for home in Path("/proc").glob("[0-9]*"):
                with suppress(OSError, ValueError):
                    words = (home / "cmdline").read_bytes().split(b"\0")
                    children = (home / "task" / home.name / "children").read_text().split()
                    if b"gateway" in words and (home / "cwd").readlink() == tmp_path and len(children) == 2:
                        os.kill(int(home.name), signal.SIGHUP)

    hanging_up = threading.Thread(target=hang_up)
    hanging_up.start()
    try:
        gateway = start_gateway(tmp_path, engine.url, as_program=True, SIGNET_GATEWAY__WORKERS="2")
    finally:
        over.set()
        hanging_up.join()
    try:
        reloaded = re.compile(r'signet_gateway_reloads_total\{worker="\d",result="done"} [1-9]')
        wait_until(lambda: len(reloaded.findall(exposition(gateway))) == 2, 20, "both workers have reloaded")
        assert "worker died" not in (tmp_path / "gateway.log").read_text()
    finally:
        stop_gateway(gateway)


def test_a_worker_that_replaces_another_has_the_settings_of_now(engine: ScriptedEngine, tmp_path: Path):
    file = tmp_path / "signet.yaml"
    file.write_text("gateway: {max_choices: 4, workers: 2, reload_interval_s: 0}\n")
    gateway = start_gateway(tmp_path, engine.url)
    try:
        file.write_text("gateway: {max_choices: 5, workers: 2, reload_interval_s: 0}\n")
        for worker in workers_of(gateway):
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda gone=worker: gone not in workers_of(gateway), 10, "the worker is gone")
        wait_until(lambda: len(workers_of(gateway)) == 2, 10, "both have successors")
        wait_until(
            lambda: httpx.get(f"{gateway.url}/readyz/engines", timeout=20).status_code == 200, 10, "the engine is up"
        )
        assert all(choices_allowed(gateway, 5) for _ in range(8))
    finally:
        stop_gateway(gateway)


def test_an_administrator_reloads_and_is_told_what_is_wrong(configured: RunningGateway):
    def reload() -> httpx.Response:
        return httpx.post(f"{configured.url}/admin/reload", headers={"authorization": f"Bearer {configured.key}"})

    file = configured.home / "signet.yaml"
    file.write_text("gateway: {max_choices: 7, drain_delay_s: 2, reload_interval_s: 0.1, workers: 3}\n")
    refused = reload()
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "settings_refused"
    assert "gateway.workers needs a restart" in refused.json()["error"]["message"]
    assert choices_allowed(configured, 4)
    assert not choices_allowed(configured, 7)


def test_readyz_fails_first_while_requests_are_still_answered(configured: RunningGateway):
    configured.process.terminate()
    wait_until(lambda: httpx.get(f"{configured.url}/readyz").status_code == 503, 2, "the gateway says that it drains")
    assert ask(configured) == 200
    assert configured.process.wait(15) == 0


def test_a_stream_under_way_finishes_during_the_drain(configured: RunningGateway, engine: ScriptedEngine):
    words = [f"word{number} " for number in range(20)]
    events = stream(words)
    engine.script = lambda _: [step for event in events for step in (event, 0.05)]
    text: list[str] = []

    def listen() -> None:
        chunks = configured.client().chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "Hello."}], stream=True
        )
        text.extend(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    listener = threading.Thread(target=listen)
    listener.start()
    wait_until(lambda: "signet_gateway_in_flight 1.0" in exposition(configured), 10, "the stream is open")
    configured.process.terminate()
    listener.join(20)
    assert configured.process.wait(15) == 0
    assert "".join(text) == "".join(words)


def test_a_second_signal_skips_the_waiting(configured: RunningGateway):
    configured.process.terminate()
    wait_until(lambda: httpx.get(f"{configured.url}/readyz").status_code == 503, 2, "the gateway says that it drains")
    started = time.monotonic()
    configured.process.terminate()
    assert configured.process.wait(15) == 0
    assert time.monotonic() - started < 1.5


def test_the_port_of_workers_is_not_shared_with_a_stranger(two_workers: RunningGateway, tmp_path: Path):
    port = two_workers.url.rpartition(":")[2]
    command = [sys.executable, "-m", "signet", "gateway", "--port", port, "--engine-url", "http://127.0.0.1:9"]
    done = subprocess.run(
        command, env={**os.environ, "SIGNET_HOME": str(tmp_path), "SIGNET_GATEWAY__WORKERS": "2"},
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot listen" in done.stderr
