"""`signet serve` as a user meets it: real processes, signals, ports and mistakes, with a stand-in for vLLM."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.engine.first_answer import FIRST_REQUEST

STANDIN = Path(__file__).parent / "standin"
STANDIN_FIRST = os.pathsep.join(filter(None, [str(STANDIN), os.environ.get("PYTHONPATH")]))


@pytest.fixture
def serve(home: Path, start_serve) -> Callable[..., Any]:
    def start(*arguments: str, **environment: str) -> Any:
        return start_serve(home, "--model", "bot", *arguments, PYTHONPATH=STANDIN_FIRST, **environment)

    return start


def core_pid(home: Path) -> int:
    """The last stand-in core that was started."""
    return int(re.findall(r"^core (\d+)$", (home / "logs" / "engine.log").read_text(), re.MULTILINE)[-1])


def answer(url: str, key: str | None = None) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_comes_up_says_how_to_use_it_and_leaves_nothing(serve):
    run = serve()
    run.wait_for("Ctrl-C stops everything")

    text = run.text
    key = re.search(r"API key  (sk-signet-\S+)", text)
    assert key is not None
    assert f"listens on http://127.0.0.1:{run.port}" in text
    assert "bot@1, signature and every byte verified" in text
    assert f"curl http://127.0.0.1:{run.port}/v1/chat/completions" in text
    assert answer(f"http://127.0.0.1:{run.port}/v1/models", key[1])[0] == 200
    assert (run.home / "first_key").stat().st_mode & 0o777 == 0o600
    processes = run.tree()
    assert len(processes) >= 4

    seconds = run.stop(signal.SIGINT)

    assert seconds < 10
    assert run.process.returncode == 0
    assert run.leaves_nothing(processes)


def test_the_curl_line_is_one_line_of_valid_shell_and_json(serve):
    run = serve()
    run.wait_for("Ctrl-C stops everything")
    line = next(line for line in run.text.splitlines() if line.startswith("curl "))

    body = re.search(r"-d '(.+)'$", line)

    assert body is not None
    assert json.loads(body[1]) == {"model": "bot", **FIRST_REQUEST}


def test_an_engine_has_answered_before_it_is_said_to_be_ready(serve):
    run = serve()
    run.wait_for("ready after")
    log = run.home / "logs" / "engine.log"
    assert "asked /v1/chat/completions" in log.read_text()

    os.kill(core_pid(run.home), signal.SIGKILL)
    run.wait_for("ready again")

    assert log.read_text().count("asked /v1/chat/completions") == 2


def test_second_start_shows_the_same_key(serve):
    keys = []
    for _ in range(2):
        run = serve()
        run.wait_for("Ctrl-C stops everything")
        keys += re.findall(r"API key  (\S+)", run.text)
        run.stop()

    assert len(keys) == 2
    assert keys[0] == keys[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stops_at_once_while_the_engine_starts(serve, number: int):
    run = serve(STANDIN_START_SECONDS="60")
    run.wait_for("loading weights")
    processes = run.tree()

    seconds = run.stop(number)

    assert seconds < 5
    assert run.leaves_nothing(processes)


def test_gateway_answers_while_the_engine_starts(serve):
    run = serve(STANDIN_START_SECONDS="60")
    run.wait_for("answers 503 until the engine is ready")

    assert answer(f"http://127.0.0.1:{run.port}/healthz")[0] == 200
    assert answer(f"http://127.0.0.1:{run.port}/readyz/engines")[0] == 503


def test_second_signal_forces_the_end(serve):
    run = serve()
    run.wait_for("Ctrl-C stops everything")
    processes = run.tree()

    run.process.send_signal(signal.SIGINT)
    run.wait_for("stopping")
    run.process.send_signal(signal.SIGINT)
    run.process.wait(5)

    assert run.leaves_nothing(processes, 5)


def test_kill_9_of_the_supervisor_takes_everything_along(serve):
    run = serve()
    run.wait_for("Ctrl-C stops everything")
    processes = run.tree()

    run.process.kill()
    run.process.wait()

    assert run.leaves_nothing(processes, 5)


def test_engine_whose_core_is_killed_is_restarted(serve):
    run = serve()
    run.wait_for("Ctrl-C stops everything")
    first = core_pid(run.home)

    os.kill(first, signal.SIGKILL)

    run.wait_for("started again")
    run.wait_for("ready again")
    assert core_pid(run.home) != first


def test_engine_asks_for_a_key_that_only_the_gateway_knows(serve):
    run = serve()
    run.wait_for("Ctrl-C stops everything")
    command = next(
        process.cmdline() for process in run.tree() if process.cmdline()[2:4] == ["-m", "serving.engine.server"]
    )
    port = command[command.index("--port") + 1]

    assert answer(f"http://127.0.0.1:{port}/v1/models")[0] == 401
    # It would not be ready if the engine had refused it.
    assert answer(f"http://127.0.0.1:{run.port}/readyz/engines")[0] == 200


def test_checkpoint_that_was_changed_since_is_not_loaded_by_a_restart(home: Path, serve):
    run = serve()
    run.wait_for("Ctrl-C stops everything")
    (home / "registry" / "bot" / "1" / "model.safetensors").write_bytes(b"wEights")

    os.kill(core_pid(run.home), signal.SIGKILL)

    one_line(run, "bot@1", "model.safetensors")


def test_gateway_that_is_killed_is_restarted_and_the_engine_left_alone(serve):
    run = serve()
    run.wait_for("Ctrl-C stops everything")
    core = core_pid(run.home)
    gateway = next(process for process in run.tree() if process.cmdline()[2:5] == ["-m", "signet", "gateway"])

    os.kill(gateway.pid, signal.SIGKILL)

    run.wait_for("ready again")
    assert core_pid(run.home) == core
    assert answer(f"http://127.0.0.1:{run.port}/healthz")[0] == 200


def one_line(run, *words: str) -> str:
    """The run's last line, after it ended with exit code 1 and without leftovers."""
    run.process.wait(40)
    lines = run.text.splitlines()
    errors = [line for line in lines if line.startswith("Error: ")]
    assert run.process.returncode == 1
    assert len(errors) == 1, run.text
    assert "Traceback" not in run.text
    for word in words:
        assert word in errors[0]
    return errors[0]


def test_taken_port_is_said_before_anything_slow(home: Path, serve):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        run = serve("--port", str(port))
        one_line(run, f"127.0.0.1:{port}", "address already in use", "--port")

    assert "verified" not in run.text


def test_changed_byte_names_the_file(home: Path, serve):
    (home / "registry" / "bot" / "1" / "model.safetensors").write_bytes(b"wEights")

    one_line(serve(), "bot@1", "model.safetensors")


def test_unreadable_checkpoint_names_the_file(home: Path, serve):
    (home / "registry" / "bot" / "1" / "manifest.json").write_text("{")

    one_line(serve(), "bot@1", "manifest.json")


def test_engine_that_dies_at_its_start_says_why(serve):
    run = serve(STANDIN_ERROR="DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    one_line(run, "did not start", "out of memory", "engine.kv_cache_gb", "engine.log")


def test_unknown_setting_names_it(home: Path, serve):
    (home.parent / "signet.yaml").write_text("engine:\n  kv_cache_bg: 3\n")

    one_line(serve(), "engine.kv_cache_bg", "kv_cache_gb")


def test_too_little_memory_is_said_beforehand(serve):
    run = serve(SIGNET_ENGINE__DEVICE="cpu", SIGNET_ENGINE__KV_CACHE_GB="90000")

    one_line(run, "needs about 9", "GB are free")


def test_default_model_without_a_network_is_one_line(home: Path, start_serve):
    shutil.rmtree(home / "registry")
    unreachable = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}

    run = start_serve(home, **unreachable, PIP_EXTRA_INDEX_URL="", PIP_FIND_LINKS="")

    one_line(run, "cannot be downloaded", "--model")


def test_drift_gauges_of_the_served_checkpoint_are_there(serve):
    run = serve()
    run.wait_for("metrics on http")

    url = re.search(r"metrics on (http\S+)", run.text)
    assert url is not None
    status, text = answer(url[1])
    assert status == 200
    assert re.search(r'signet_drift_\w+\{.*name="bot".*\} NaN|signet_drift_\w+\{.*"bot".*\} NaN', text), text


def test_a_drift_worker_that_cannot_run_stops_nothing_else(serve):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        run = serve(SIGNET_DRIFT__PORT=str(other.getsockname()[1]))
        run.wait_for("Ctrl-C stops everything")

    assert answer(f"http://127.0.0.1:{run.port}/readyz/engines")[0] == 200


def test_print_config_shows_the_effective_settings(home: Path, serve):
    run = serve("--print-config", SIGNET_ENGINE__KV_CACHE_GB="5")
    run.process.wait(20)

    assert "kv_cache_gb: 5" in run.text
    assert "model: bot" in run.text
    assert run.process.returncode == 0
