"""The comparison's arithmetic and page; the real engine is measured by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtests.benchmarks import planner
from loadtests.benchmarks.gateway import set_pace
from loadtests.benchmarks.planner import Row, engine_process, memory_rows, planned, section, wave_s
from monitoring.plan.accelerators import GIB, Accelerator
from monitoring.plan.probe import Measured

MEASURED = Measured(threads=1, bandwidth=10e9, operations=100e9, power_w=None)
PROCESSOR = Accelerator("here", 24 * GIB, 10e9, {"fp32": 100e9, "16-bit": 200e9}, None, 10e9, 2048, ())
CONFIG = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "num_hidden_layers": 30,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_a_row_holds_within_its_bar() -> None:
    held, missed = Row("a", 109, 100, "GiB", 0.10), Row("b", 130, 100, "tokens/s", 0.25)

    assert held.line() == "| a | 109 GiB | 100 GiB | 1.090 | within 10%: held |"
    assert missed.line().endswith("| 1.300 | within 25%: **not held** |")


def test_streams_that_start_together_read_their_prompts_first(folder: Path) -> None:
    engine = planned(folder, PROCESSOR, 2)[2]

    assert wave_s(engine, 1, 40, 1) == pytest.approx(engine.prompt_s(40))
    assert wave_s(engine, 16, 40, 65) == pytest.approx(engine.prompt_s(40, 16) + 64 * engine.step_s(16, 72.5))


def test_memory_is_what_the_engine_reports(folder: Path) -> None:
    weights, memory, _ = planned(folder, PROCESSOR, 2)

    rows = memory_rows(weights, memory, memory.cache_tokens, memory.usable, files=269_060_552)

    assert [row.is_held for row in rows] == [True, True, True]


def test_the_engine_is_found_by_its_port(tmp_path: Path) -> None:
    for pid, port in (("12", "8001"), ("13", "8002")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_text(f"python\0-m\0serving.engine.server\0--port\0{port}\0")

    assert engine_process("http://127.0.0.1:8002", tmp_path) == 13
    assert engine_process("http://127.0.0.1:8003", tmp_path) is None


def test_a_page_says_on_which_machine(folder: Path) -> None:
    text = section([Row("a", 1, 1, "GiB", 0.1)], MEASURED, "python -m …")

    assert "10.0 GB/s, 100 GFLOP/s" in text
    assert "| a | 1 GiB | 1 GiB | 1.000 | within 10%: held |" in text


def test_it_measures_an_engine_and_writes_its_section(
    folder: Path, standin_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in's speed is no model's; that figures come out, and where they go, is the same."""
    monkeypatch.setattr(planner, "here", lambda: (PROCESSOR, MEASURED))
    page = tmp_path / "planner.md"
    options = ["--engine-url", standin_url, "--model", str(folder), "--streams", "2", "--tokens", "4", "--rounds", "1"]

    set_pace(standin_url, 5)
    try:
        done = CliRunner().invoke(planner.main, [*options, "--out", str(page)])
    finally:
        set_pace(standin_url, 0)

    assert done.exit_code == 0, done.output
    assert "## Here\n" in page.read_text()
    assert "| 2 streams of 4 tokens |" in page.read_text()
