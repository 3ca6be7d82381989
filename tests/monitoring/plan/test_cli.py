"""`signet plan`, from a configuration to its table, its JSON and its picture."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from monitoring.plan import probe
from monitoring.plan.accelerators import Accelerator
from monitoring.plan.cli import plan_command
from monitoring.plan.probe import Measured
from training.registry import ManifestDraft, Registry


@dataclass
class Engine:
    kv_cache_gb: int = 2


@dataclass
class Settings:
    home: Path
    engine: Engine = field(default_factory=Engine)


@pytest.fixture
def folder(tmp_path: Path, llama_8b: dict[str, Any]) -> Path:
    made = tmp_path / "Llama-3.1-8B"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(llama_8b))
    return made


@pytest.fixture
def run(tmp_path: Path) -> Any:
    def _run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(plan_command, [str(part) for part in arguments], obj=lambda: Settings(tmp_path))

    return _run


def _plan(result: Result) -> dict[str, Any]:
    assert result.exit_code in (0, 1), result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_the_table_answers_what_a_platform_engineer_asks(run: Any, folder: Path) -> None:
    options = "--accelerator h100 --precision fp8 --requests-per-second 5 --prompt-tokens 800 --answer-tokens 300"

    done = run(folder, *options.split(), "--ttft-ms", "500", "--inter-token-ms", "50")

    assert done.exit_code == 0, done.output
    assert done.output.startswith("Llama-3.1-8B: 8.03 billion weights in fp8, 1 x h100 an engine\n")
    for label in ("weights", "left for the cache", "fits", "engines for the load", "cloud", "on premises", "API"):
        assert re.search(rf"^  {label} ", done.output, re.MULTILINE), label
    assert re.search(r"energy .* Wh  per 1,000 tokens written, modelled", done.output)
    assert re.search(r"carbon .* g  per 1,000 tokens written, modelled, 481 g/kWh", done.output)
    assert "vllm-project/vllm/pull/10511" in done.output


def test_json_is_in_base_units_with_sources(run: Any, folder: Path) -> None:
    made = _plan(run(folder / "config.json", "--accelerator", "h100", "--json"))

    memory = made["memory_bytes_per_device"]
    assert made["model"] == "Llama-3.1-8B"
    assert memory["weights"] == 16_060_522_496
    assert memory["cache_per_token"] == 2 * 32 * 8 * 128 * 2
    assert made["holds"]
    assert made["devices"] == made["engines"] * made["devices_per_engine"]
    assert all(offer["source"]["date"] for offer in made["cost_usd_per_month"]["cloud"])
    assert made["energy"]["basis"] == "modelled"
    assert made["speed"]["basis"] == "modelled"


def test_what_does_not_fit_says_what_would_and_fails(run: Any, folder: Path) -> None:
    made = run(folder, "--accelerator", "l4", "--concurrency", "200")

    assert made.exit_code == 1
    assert re.search(r"fits +NO  it fits with --gpus \d", made.output)


def test_times_that_nothing_holds_say_why_and_fail(run: Any, folder: Path) -> None:
    made = run(folder, "--accelerator", "l4", "--inter-token-ms", "20")

    assert made.exit_code == 1
    assert re.search(r"within the objective +NOTHING  an answer alone takes \d+ ms a token", made.output)
    assert _plan(run(folder, "--accelerator", "l4", "--inter-token-ms", "20", "--json"))["engines"] == 0


def test_the_month_is_paid_at_the_mean_load(run: Any, folder: Path) -> None:
    always = _plan(run(folder, "--accelerator", "h100", "--requests-per-second", "8", "--json"))
    by_day = _plan(
        run(
            folder,
            "--accelerator",
            "h100",
            "--requests-per-second",
            "8",
            "--average-requests-per-second",
            "2",
            "--json",
        )
    )

    assert by_day["engines"] == always["engines"]
    assert by_day["tokens_per_month"]["answer"] == always["tokens_per_month"]["answer"] / 4
    first, second = (made["cost_usd_per_month"] for made in (always, by_day))
    assert second["api"][0]["usd_per_month"] == pytest.approx(first["api"][0]["usd_per_month"] / 4)
    assert second["cloud"][0]["usd_per_month"] == first["cloud"][0]["usd_per_month"]
    assert by_day["energy"]["kwh_per_month"] < always["energy"]["kwh_per_month"]


def test_the_picture_is_svg_with_each_way_to_pay(run: Any, folder: Path, tmp_path: Path) -> None:
    done = run(folder, "--accelerator", "h100", "--plot", tmp_path / "cost.svg")

    assert done.exit_code == 0, done.output
    drawn = ElementTree.parse(tmp_path / "cost.svg")
    lines = drawn.findall(".//{http://www.w3.org/2000/svg}polyline")
    words = " ".join(drawn.getroot().itertext())
    assert len(lines) == 4
    assert "the cheapest cloud" in words
    assert "on premises" in words
    # What is rented climbs in steps: no two neighbours differ in both directions.
    places = [tuple(map(float, place.split(","))) for place in lines[0].attrib["points"].split()]
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in pairwise(places))


def test_there_is_no_picture_of_what_nothing_holds(run: Any, folder: Path, tmp_path: Path) -> None:
    done = run(folder, "--accelerator", "l4", "--inter-token-ms", "20", "--plot", tmp_path / "cost.svg")

    assert done.exit_code == 1
    assert "cost.svg is not written: nothing holds the load" in done.output
    assert not (tmp_path / "cost.svg").exists()


def test_this_machine_is_measured_and_takes_what_the_engine_would(
    run: Any, tmp_path: Path, smollm: dict[str, Any], processor: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "here", lambda: (processor, Measured(1, 10e9, 100e9, None)))
    monkeypatch.setattr(probe, "here_dtype", lambda: "float32")
    (tmp_path / "config.json").write_text(json.dumps(smollm))

    made = _plan(run(tmp_path / "config.json", "--ttft-ms", "9000", "--inter-token-ms", "900", "--json"))

    assert made["precision"] == "fp32"
    assert made["memory_bytes_per_device"]["cache_tokens"] == 46_592
    assert made["energy"] is None
    assert made["cost_usd_per_month"]["cloud"] == []


@pytest.mark.parametrize("value", ["inf", "nan", "-1", "0", "1e300"])
def test_what_is_no_rate_is_refused(run: Any, folder: Path, value: str) -> None:
    done = run(folder, "--accelerator", "h100", "--requests-per-second", value)

    assert done.exit_code == 2
    assert "Invalid value for '--requests-per-second'" in done.output


def test_a_processor_is_told_what_vllm_computes_on_it(
    run: Any, folder: Path, processor: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "here", lambda: (processor, Measured(1, 10e9, 100e9, None)))
    monkeypatch.setattr(probe, "here_dtype", lambda: "float32")

    assert "vLLM computes no FP8 on processors" in run(folder, "--precision", "fp8").output
    assert re.search(r"fits +NO  it fits with --precision int8", run(folder).output)


def test_a_name_in_the_registry_is_read_there_and_an_adapter_takes_room(
    run: Any, tmp_path: Path, llama_8b: dict[str, Any]
) -> None:
    registry = Registry(tmp_path / "registry", tmp_path / "keys")
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(llama_8b))
    checkpoint = registry.register(base, "chat", ManifestDraft(kind="base"))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 16}))
    registry.register(adapter, "desk", ManifestDraft(kind="adapter", base=checkpoint.manifest.as_ref()))

    plain = _plan(run("chat", "--accelerator", "h100", "--json"))
    adapted = _plan(run("desk@1", "--accelerator", "h100", "--json"))

    assert plain["model"] == "chat@1"
    assert adapted["model"] == "desk@1"
    assert plain["memory_bytes_per_device"]["adapters"] == 0
    assert adapted["memory_bytes_per_device"]["adapters"] > 50e6


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["chat"], "no checkpoint named 'chat'", id="registry"),
        pytest.param(["./chat"], "there is no ./chat: give a config.json", id="path"),
        pytest.param(["FOLDER", "--accelerator", "h101"], "known are a100-40gb", id="accelerator"),
        pytest.param(["FOLDER", "--grid", "mars"], "no grid named 'mars': known are world", id="grid"),
        pytest.param(["FOLDER", "--precision", "int3"], "no precision named 'int3'", id="precision"),
        pytest.param(["FOLDER", "--precision", "fp32"], "no figure for fp32 on h100", id="arithmetic"),
        pytest.param(["FOLDER", "--prompt-tokens", "200000"], "the model reads 131,072", id="context"),
        pytest.param(["FOLDER", "--gpus", "3"], "do not divide among 3 devices", id="devices"),
        pytest.param(["FOLDER", "--plot", "cost.png"], "--plot writes SVG: name the file cost.svg", id="picture"),
        pytest.param(["FOLDER", "--average-requests-per-second", "9"], "the rate at the busiest", id="rates"),
        pytest.param(["FOLDER", "--accelerator", "here", "--gpus", "2"], "here is one processor", id="processors"),
        pytest.param(["FOLDER/none"], "there is no", id="nothing there"),
        pytest.param(["BROKEN"], "is not JSON", id="broken"),
        pytest.param(["LIST"], "holds no JSON object", id="list"),
    ],
)
def test_mistakes_are_one_line(run: Any, folder: Path, tmp_path: Path, arguments: list[str], told: str) -> None:
    (tmp_path / "BROKEN").write_text("{")
    (tmp_path / "LIST").write_text("[]")
    named = [part.replace("FOLDER", str(folder)) for part in arguments]
    given = [str(tmp_path / part) if part in ("BROKEN", "LIST") else part for part in named]
    on = [] if "--accelerator" in given else ["--accelerator", "h100"]

    done = run(*given, *on)

    assert done.exit_code == 1
    assert told in done.output
    assert done.output.startswith("Error: ")
    assert done.output.count("\n") == 1
