import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import training
from signet import cli
from tests.support.running import wait_until
from tests.support.stack import fresh_home
from tests.support.tiny_bert import write_tiny_bert
from training import command as shared
from training.registry import ManifestDraft, Registry

REPOSITORY = Path(__file__).parents[2]
HELD_OUT = REPOSITORY / "recipes" / "data" / "support-desk-heldout.jsonl"


@dataclass
class Settings:
    home: Path


@pytest.fixture
def signet(home: Path) -> Callable[..., Result]:
    """Run a training command in this process, as `signet` mounts it."""

    def run(command: str, *arguments: str | Path) -> Result:
        context = {"obj": lambda: Settings(home)}
        mounted = cli.get_command(click.Context(cli), command)
        assert mounted is not None
        return CliRunner().invoke(mounted, [str(argument) for argument in arguments], **context)

    return run


@pytest.fixture
def desk(store: Registry, tmp_path: Path) -> Registry:
    """`desk` in three versions, the first of them called canary."""
    for number in range(3):
        folder = tmp_path / f"desk-{number}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"%d" % number)
        store.register(folder, "desk", ManifestDraft(kind="base"))
    store.promote("desk", 1, "canary")
    return store


def change(store: Registry, ref: str) -> None:
    (store.resolve(ref).path / "model.safetensors").write_bytes(b"X")


# -- registry


def test_list_shows_versions_and_aliases(signet: Callable[..., Result], desk: Registry) -> None:
    rows = json.loads(signet("registry", "list", "--json").stdout)

    assert [row["ref"] for row in rows] == ["desk@1", "desk@2", "desk@3"]
    assert rows[0]["aliases"] == ["canary"]
    assert rows[0]["kind"] == "base"
    assert rows[0]["bytes"] == 1
    lines = signet("registry", "list").stdout.splitlines()
    assert lines[0].split() == ["CHECKPOINT", "KIND", "SIZE", "CREATED", "BASE", "ALIASES"]
    assert lines[1].split()[-1] == "canary"


def test_list_of_nothing(signet: Callable[..., Result]) -> None:
    assert signet("registry", "list").stdout == "The registry is empty.\n"
    assert signet("registry", "list", "--json").stdout == "[]\n"


def test_list_warns_of_damaged_manifests_and_shows_the_others(signet: Callable[..., Result], desk: Registry) -> None:
    (desk.root / "desk" / "2" / "manifest.json").write_text("{")

    result = signet("registry", "list", "--json")

    assert [row["ref"] for row in json.loads(result.stdout)] == ["desk@1", "desk@3"]
    assert "Warning: checkpoint desk@2 does not verify: manifest.json is not a manifest" in result.stderr


def test_show_prints_the_manifest(signet: Callable[..., Result], desk: Registry) -> None:
    shown = json.loads(signet("registry", "show", "desk@1", "--json").stdout)

    assert shown["ref"] == "desk@1"
    assert shown["aliases"] == ["canary"]
    assert shown["manifest"]["files"].keys() == {"model.safetensors"}
    assert json.loads(signet("registry", "show", "desk@1").stdout) == shown


def test_verify_names_the_changed_file_and_fails(signet: Callable[..., Result], desk: Registry) -> None:
    change(desk, "desk@2")

    good, bad, all_of_them = (signet("registry", "verify", *refs) for refs in (["desk@1"], ["desk@2"], []))

    assert (good.exit_code, good.stdout) == (0, "desk@1 is as it was signed (1 files)\n")
    assert bad.exit_code == 1
    assert bad.stderr.startswith("Error: checkpoint desk@2 does not verify: model.safetensors has changed")
    assert bad.stderr.count("\n") == 1
    assert all_of_them.exit_code == 1
    assert all_of_them.stdout.count("is as it was signed") == 2


def test_verify_as_json(signet: Callable[..., Result], desk: Registry) -> None:
    change(desk, "desk@2")

    result = signet("registry", "verify", "desk@1", "desk@2", "--json")

    good, bad = json.loads(result.stdout)
    assert (good["ref"], good["ok"]) == ("desk@1", True)
    assert (bad["ref"], bad["ok"], bad["file"]) == ("desk@2", False, "model.safetensors")
    assert result.exit_code == 1


def test_promote_and_rollback(signet: Callable[..., Result], desk: Registry) -> None:
    signet("registry", "promote", "desk@1")
    promoted = signet("registry", "promote", "desk@2", "--json")
    rolled_back = signet("registry", "rollback", "desk")
    again = signet("registry", "rollback", "desk")

    assert json.loads(promoted.stdout) == {
        "name": "desk",
        "alias": "production",
        "version": 2,
        "ref": "desk@2",
        "previous": [1],
    }
    assert rolled_back.stdout == "desk@production is now version 1\n"
    assert (again.exit_code, again.stderr) == (1, "Error: desk@production has no earlier version to roll back to\n")


def test_aliases_that_nobody_signed_are_said_and_signed_by_command(
    signet: Callable[..., Result], desk: Registry
) -> None:
    path = desk.root / "desk" / "aliases.json"
    path.write_text(json.dumps(json.loads(path.read_bytes())["aliases"]))
    refused = "the aliases of desk do not verify: aliases.json is not signed"

    listed, verified = signet("registry", "list", "--json"), signet("registry", "verify")
    used = signet("registry", "show", "desk@canary")

    assert [row["aliases"] for row in json.loads(listed.stdout)] == [[], [], []]
    assert listed.stderr.startswith(f"Warning: {refused}")
    assert (verified.exit_code, used.exit_code) == (1, 1)
    for result in (verified, used):
        assert result.stderr.startswith(f"Error: {refused}")
        assert result.stderr.count("\n") == 1
    assert signet("registry", "sign-aliases", "desk").stdout == "signed: desk@canary is version 1\n"
    again = signet("registry", "sign-aliases", "desk", "--json")
    assert json.loads(again.stdout) == {"name": "desk", "aliases": {"canary": 1}}
    assert signet("registry", "verify").exit_code == 0
    assert json.loads(signet("registry", "show", "desk@canary").stdout)["ref"] == "desk@1"


def test_alias_can_be_promoted_by_its_name(signet: Callable[..., Result], desk: Registry) -> None:
    result = signet("registry", "promote", "desk@canary", "--json")

    assert json.loads(result.stdout)["version"] == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["show", "nothing"], "no checkpoint named 'nothing'"),
        (["verify", "desk@9"], "desk has no version 9: it has 1, 2, 3"),
        (["promote", "desk"], "say which version of desk to promote, as in desk@1"),
        (["promote", "desk@1", "--alias", "A B"], "'A B' is not an alias"),
        (["promote", "desk@3"], "checkpoint desk@3 does not verify: model.safetensors"),
        (["rollback", "nothing"], "no checkpoint named 'nothing'"),
    ],
)
def test_mistakes_are_one_line(signet: Callable[..., Result], desk: Registry, arguments: list[str], line: str) -> None:
    change(desk, "desk@3")

    result = signet("registry", *arguments)

    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {line}")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


# -- train and evaluate


@pytest.fixture
def recipe(tmp_path: Path, write_chats: Callable[..., Path]) -> Path:
    write_chats("train.jsonl", [(f"Question {number}?", "It is open.") for number in range(8)])
    write_chats("heldout.jsonl", [("Open?", "It is open.")])
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "method: lora-sft\nname: shop\nbase: tiny\nsteps: 3\nbatch_size: 2\n"
        "data: {train: train.jsonl, heldout: heldout.jsonl}\n"
    )
    return path


def test_train_then_evaluate(signet: Callable[..., Result], tiny: Registry, recipe: Path) -> None:
    trained = signet("train", recipe, "--set", "steps=2", "--json")
    evaluated = signet("evaluate", "shop@1", "--data", recipe.parent / "heldout.jsonl", "--json")

    made = json.loads(trained.stdout)
    assert made["ref"] == "shop@1"
    assert len(made["losses"]) == 2
    measured = json.loads(evaluated.stdout)
    assert measured["perplexity"] == pytest.approx(made["perplexity_after"], rel=1e-6)
    assert measured["tokens"] == made["heldout_tokens"]
    assert measured["bytes"] == len("It is open.")
    bits = math.log2(measured["perplexity"]) * measured["tokens"]
    assert measured["bits_per_byte"] == pytest.approx(bits / measured["bytes"])
    assert measured["digest"] == made["digest"]


def test_tokenizers_are_compared(signet: Callable[..., Result], tiny: Registry, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("It is open, is it not?\n" * 30)
    recipe = "method: tokenizer\nname: words\nvocab_size: 300\ndata: {train: text.txt}\n"
    (tmp_path / "tokenizer.yaml").write_text(recipe)
    text = ("--data", tmp_path / "text.txt", "--beside", "tiny")
    signet("train", tmp_path / "tokenizer.yaml")

    measured = json.loads(signet("evaluate", "words", *text, "--json").stdout)
    lines = signet("evaluate", "words", *text).stdout.splitlines()
    refused = signet("evaluate", "tiny", *text)

    assert measured["bytes_per_token"] > 2
    assert (measured["ref"], measured["bytes"]) == ("words@1", 23 * 30)
    assert [(other["ref"], other["bytes_per_token"]) for other in measured["beside"]] == [("tiny", 1.0)]
    assert [line.partition(":")[0] for line in lines] == ["words@1", "tiny"]
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)


def test_results_for_people_say_what_comes_next(signet: Callable[..., Result], tiny: Registry, recipe: Path) -> None:
    trained = signet("train", recipe).stdout
    evaluated = signet("evaluate", "shop", "--data", recipe.parent / "heldout.jsonl").stdout

    assert trained.startswith("shop@1: held-out perplexity ")
    assert "signet serve --model shop@1" in trained
    assert evaluated.startswith("shop@1: perplexity ")


def test_an_embedder_is_measured_by_pairs(
    signet: Callable[..., Result], store: Registry, tmp_path: Path, recipe: Path
) -> None:
    store.register(write_tiny_bert(tmp_path / "bert"), "small", ManifestDraft(kind="embedder"))
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"query": "the ship", "text": "the ship"}\n{"query": "harbour", "text": "harbour"}\n')

    measured = json.loads(signet("evaluate", "small", "--data", pairs, "--json").stdout)
    refused = signet("evaluate", "small", "--data", recipe.parent / "heldout.jsonl")

    assert (measured["recall_at_1"], measured["mrr"], measured["queries"]) == (1.0, 1.0, 2)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "heldout.jsonl:1: query is missing or empty" in refused.stderr


@pytest.fixture
def names_recipe(tmp_path: Path) -> Path:
    path = tmp_path / "names.yaml"
    path.write_text("method: guard-names\nname: names\ntexts: 100\nepochs: 1\ndraws: 10\n")
    return path


def test_train_runs_the_guards_recipes_too(signet: Callable[..., Result], store: Registry, names_recipe: Path) -> None:
    made = json.loads(signet("train", names_recipe, "--set", "seed=4", "--json").stdout)
    said = signet("train", names_recipe).stdout.splitlines()

    assert (made["ref"], made["as_shipped"]) == ("names@1", False)
    assert made["evaluation"].keys() == {"name_f1", "address_f1"}
    store.verify(store.resolve("names@1"))
    assert said[0].startswith("names@2: ")
    assert said[-1].startswith("Its weights are not the ones that gateways read")


def test_only_the_guards_weights_are_shipped(signet: Callable[..., Result], tiny: Registry, recipe: Path) -> None:
    result = signet("train", recipe, "--ship")

    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "--ship is for the guard's recipes" in result.stderr


@pytest.fixture
def preparing(monkeypatch: pytest.MonkeyPatch, store: Registry, tiny_model_folder: Path, tmp_path: Path) -> list[Any]:
    """In place of `signet engine --prepare-only`: registers the tiny model as the default one. Holds what was run."""
    runs: list[Any] = []

    def prepare(command: list[str], env: dict[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        runs.append((command[1:], env["SIGNET_HOME"]))
        folder = shutil.copytree(tiny_model_folder, tmp_path / "prepared")
        store.register(folder, shared.DEFAULT_MODEL, ManifestDraft(kind="base"))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(shared.subprocess, "run", prepare)
    return runs


def test_missing_default_model_is_prepared_first(
    signet: Callable[..., Result], preparing: list[Any], recipe: Path, home: Path
) -> None:
    arguments = (shared.DEFAULT_MODEL, "--data", recipe.parent / "heldout.jsonl")

    results = [signet("evaluate", *arguments), signet("evaluate", *arguments)]

    assert [result.exit_code for result in results] == [0, 0]
    assert preparing == [(["-m", "signet", "engine", "--prepare-only"], str(home))]


def test_default_model_that_cannot_be_prepared_is_one_line(
    signet: Callable[..., Result], recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1))

    result = signet("train", recipe, "--set", f"base={shared.DEFAULT_MODEL}")

    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "could not be prepared" in result.stderr


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (["--set", "lora.rnak=1"], "recipe.yaml: unknown setting 'adapter.rnak': did you mean 'rank'?"),
        (["--set", "base=nothing"], "no checkpoint named 'nothing'"),
        (["--set", "data.train=absent.jsonl"], "absent.jsonl: cannot be read: No such file or directory"),
        (["--set", "data.train=ratings.jsonl"], 'ratings.jsonl:1: is neither {"text": …} nor {"messages": […]}'),
        (["--set", "base=./nowhere"], "nowhere is not a model's folder"),
    ],
)
def test_mistakes_in_a_recipe_are_one_line(
    signet: Callable[..., Result], tiny: Registry, recipe: Path, change: list[str], line: str
) -> None:
    (recipe.parent / "ratings.jsonl").write_text('{"rating": 5}\n')

    result = signet("train", recipe, *change)

    assert result.exit_code == 1
    assert line in result.stderr
    assert result.stderr.count("\n") == 1


# `signet train` in a process of its own, without the settings of the serving side.
TRAIN = """
import sys
from pathlib import Path
from types import SimpleNamespace
from training import progress
from training.cli import train
progress.LOG_INTERVAL_SECONDS = 0.1
train.main(sys.argv[2:], obj=lambda: SimpleNamespace(home=Path(sys.argv[1])))
"""


def test_missing_package_is_named(
    signet: Callable[..., Result], tiny: Registry, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith("training.methods")]:
        monkeypatch.delitem(sys.modules, module)  # imported anew
    monkeypatch.setattr(training, "methods", None, raising=False)
    monkeypatch.setitem(sys.modules, "peft", None)

    result = signet("train", recipe)

    said = "Error: peft is not installed: pip install 'signet[train,cpu]'\n"
    assert (result.exit_code, result.stderr) == (1, said)


def test_help_reads_no_settings_and_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'peft', 'numpy', 'sqlalchemy', 'serving.settings'}"
    code = f"import sys, signet\ntry: signet.main(['train', '-h'])\nfinally: print({heavy} & sys.modules.keys())"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "RECIPE" in done.stdout
    assert done.stdout.endswith("\nset()\n")


def test_quantize_is_mounted_beside_the_others(signet: Callable[..., Result]) -> None:
    assert signet("quantize", "--help").exit_code == 0


def test_terminated_training_registers_nothing_and_leaves_nothing(tiny: Registry, home: Path, recipe: Path) -> None:
    log = (recipe.parent / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(home), str(recipe), "--set", "steps=1000000"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=log,
    )
    try:
        wait_until(lambda: b"Training shop" in Path(log.name).read_bytes(), 120, "training has begun", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 1
    finally:
        process.kill()
        process.wait()
        log.close()

    said = Path(log.name).read_text().splitlines()[-1]
    again = "run the same command again to continue after step"
    assert re.fullmatch(rf"Error: interrupted: nothing was registered; {again} \d+", said)
    assert [checkpoint.ref for checkpoint in tiny.list()] == ["tiny@1"]
    assert not (home / "cache").exists() or os.listdir(home / "cache") == []


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_shipped_recipe_teaches_the_default_model(
    prepared_home: Path, home: Path, signet: Callable[..., Result]
) -> None:
    fresh_home(prepared_home, home)
    held_out = home / "heldout.jsonl"
    held_out.write_text("".join(HELD_OUT.read_text().splitlines(keepends=True)[:6]))
    few = ["steps=6", "batch_size=4", "schedule.warmup_fraction=0", f"data.heldout={held_out}"]

    trained = signet(
        "train", REPOSITORY / "recipes" / "lora-sft.yaml", *(f"--set={setting}" for setting in few), "--json"
    )
    verified = signet("registry", "verify", "support-desk@1")
    evaluated = signet("evaluate", "support-desk@1", "--data", held_out, "--json")

    assert trained.exit_code == 0, trained.stderr
    made: dict[str, Any] = json.loads(trained.stdout)
    assert made["perplexity_after"] < made["perplexity_before"] / 2
    assert verified.exit_code == 0, verified.stderr
    assert json.loads(evaluated.stdout)["perplexity"] == pytest.approx(made["perplexity_after"], rel=1e-5)
