"""Reading vLLM's log: every line here was written by vLLM 0.32 or by what it is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.engine.startup import MAX_REASON_CHARS, StartupLog, explain

PREFIX = "(EngineCore pid=14768) ERROR 11-24 01:35:25 [core.py:1510] "


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param(
            "OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', 8123): address already in use",
            "port is taken",
            id="port",
        ),
        pytest.param(
            f"{PREFIX}ValueError: Available memory on node 0 (1.20/10.84 GiB) on kv cache allocation is less than "
            "requested memory for kv (2.00/2.00 GiB).",
            "out of memory",
            id="memory",
        ),
        pytest.param(
            f"{PREFIX}RuntimeError: [enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: "
            "you tried to allocate 4294967296 bytes.",
            "out of memory",
            id="allocator",
        ),
        pytest.param(
            f"{PREFIX}ValueError: To serve at least one request with the model's max seq len (8192), (0.18 GiB KV "
            "cache is needed, which is larger than the available KV cache memory (0.10 GiB).",
            "no request of 8192 tokens",
            id="kv-cache",
        ),
        pytest.param(
            "  Value error, Model architectures ['MambaForEverything'] are not supported for now. Supported: ...",
            "(MambaForEverything)",
            id="architecture",
        ),
        pytest.param(
            "  Value error, User-specified max_model_len (9000) is greater than the derived max_model_len "
            "(max_position_embeddings=8192 or model_max_length=None in model's config.json).",
            "max_model_len (9000)",
            id="length",
        ),
        pytest.param(
            f"{PREFIX}safetensors_rust.SafetensorError: Error while deserializing header: header too large",
            "weights cannot be read (Error while deserializing header: header too large)",
            id="weights",
        ),
        pytest.param(
            "api_server.py: error: unrecognized arguments: --max-modle-len 5", "--max-modle-len", id="argument"
        ),
        pytest.param("/usr/bin/python: No module named 'vllm'", "make serve", id="no-vllm"),
        pytest.param("Error: the keyring is not readable.", "the keyring is not readable", id="our-own-line"),
    ],
)
def test_names_the_cause(line: str, words: str):
    log = f"INFO starting\n{line}\nRuntimeError: Engine core initialization failed. See root cause above.\n"

    assert words in explain(log, 1)


def test_unknown_error_is_quoted_and_its_consequences_are_not():
    log = (
        f"{PREFIX}Traceback (most recent call last):\n{PREFIX}ZeroDivisionError: division by zero\n"
        f"{PREFIX}Exception: WorkerProc initialization failed due to an exception in a background process.\n"
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
    )

    assert explain(log, 1) == "ZeroDivisionError: division by zero"


def test_says_what_a_killed_process_most_likely_died_of():
    assert "memory ran out" in explain("INFO loading\n", 137)
    assert "signal 11" in explain("INFO loading\n", 139)
    assert "exit code 3" in explain("", 3)


def test_reason_is_one_bounded_line():
    reason = explain("ValueError: " + "x y\t" * 1000, 1)

    assert "\n" not in reason
    assert len(reason) <= MAX_REASON_CHARS


def test_phase_follows_the_log(tmp_path: Path):
    file = tmp_path / "engine.log"
    log = StartupLog(file)
    file.write_text("INFO Starting to load model /m...\n")
    assert log.phase() == "loading weights"

    with file.open("a") as more:
        more.write("INFO CPU KV cache size: 93,184 tokens\n")

    assert log.phase() == "warming up"
    assert log.phase() == "warming up"


def test_a_start_before_ours_does_not_count(tmp_path: Path):
    file = tmp_path / "engine.log"
    file.write_text("ValueError: of the start before\n")

    log = StartupLog(file)
    with file.open("a") as more:
        more.write("TypeError: of this one\n")

    assert log.reason(1) == "TypeError: of this one"
