"""What `--model` may name, and that nothing unverified is loaded unless the user says so."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from serving.engine import resolve as resolve_module
from serving.engine.errors import ModelRefused, ModelUnavailable
from serving.engine.resolve import ModelSource, resolve
from serving.engine.settings import EngineSettings
from training.registry import Checkpoint, CheckpointRef, ManifestDraft, Registry, RegistryError


@dataclass
class Home:
    home: Path
    engine: EngineSettings

    @property
    def registry(self) -> Registry:
        return Registry(self.home / "registry", self.home / "keys")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", EngineSettings())


def allowed(home: Home) -> Home:
    return Home(home.home, EngineSettings(allow_unverified=True))


def make_folder(path: Path, text: str = "weights") -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    (path / "model.safetensors").write_text(text)
    return path


def register(home: Home, tmp_path: Path, name: str = "bot", text: str = "weights") -> Checkpoint:
    folder = make_folder(tmp_path / "made" / name / text, text)
    return home.registry.register(folder, name, ManifestDraft(kind="base"))


def quietly(ref: str | None, home: Home) -> ModelSource:
    return resolve(ref, home, lambda *_: None)


def change_a_byte(checkpoint: Checkpoint) -> None:
    file = checkpoint.path / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)


def test_name_takes_the_newest_version_and_is_served_under_its_name(home: Home, tmp_path: Path):
    register(home, tmp_path)
    second = register(home, tmp_path, text="better weights")

    source = quietly("bot", home)

    assert source.path == second.path
    assert source.served_name == "bot"
    assert source.checkpoint == second
    assert source.warning is None
    assert source.manifests == {"bot": second.digest}


def test_version_is_honoured(home: Home, tmp_path: Path):
    first = register(home, tmp_path)
    register(home, tmp_path, text="better weights")

    assert quietly("bot@1", home).path == first.path


def test_changed_byte_is_refused_and_the_file_named(home: Home, tmp_path: Path):
    change_a_byte(register(home, tmp_path))

    with pytest.raises(ModelRefused, match=r"bot@1.*model\.safetensors"):
        quietly("bot", home)


def test_changed_byte_is_served_with_a_warning_when_allowed_in_so_many_words(home: Home, tmp_path: Path):
    change_a_byte(register(home, tmp_path))

    source = quietly("bot", allowed(home))

    assert source.warning is not None
    assert "model.safetensors" in source.warning
    assert source.manifests == {}


def test_folder_of_a_checkpoint_verifies_like_its_name(home: Home, tmp_path: Path):
    checkpoint = register(home, tmp_path)

    assert quietly(str(checkpoint.path), home).served_name == "bot"

    change_a_byte(checkpoint)
    with pytest.raises(ModelRefused, match=r"model\.safetensors"):
        quietly(str(checkpoint.path), home)


def test_checkpoint_moved_elsewhere_does_not_verify(home: Home, tmp_path: Path):
    moved = tmp_path / "elsewhere"
    register(home, tmp_path).path.rename(moved)

    with pytest.raises(ModelRefused, match="does not verify"):
        quietly(str(moved), home)


def test_plain_folder_needs_the_words(home: Home, tmp_path: Path):
    folder = make_folder(tmp_path / "plain")

    with pytest.raises(ModelRefused, match="--allow-unverified"):
        quietly(str(folder), home)
    source = quietly(str(folder), allowed(home))

    assert (source.path, source.served_name) == (folder, "plain")
    assert source.warning is not None


def test_registry_comes_before_a_folder_of_the_same_name(home: Home, tmp_path: Path, monkeypatch):
    make_folder(tmp_path / "bot")
    monkeypatch.chdir(tmp_path)
    checkpoint = register(home, tmp_path)

    assert quietly("bot", home).path == checkpoint.path
    assert quietly("./bot", allowed(home)).path == tmp_path / "bot"


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_folder_that_is_no_model_says_so(home: Home, tmp_path: Path, content: str | None):
    folder = tmp_path / "nothing"
    folder.mkdir()
    if content is not None:
        (folder / "config.json").write_text(content)

    with pytest.raises(ModelUnavailable, match=r"config\.json"):
        quietly(str(folder), allowed(home))


@pytest.mark.parametrize("ref", ["nobody", "bot@7", "./nowhere", "/nowhere"])
def test_unknown_model_is_one_line(home: Home, tmp_path: Path, ref: str):
    register(home, tmp_path)

    with pytest.raises((ModelUnavailable, RegistryError)) as raised:
        quietly(ref, home)

    assert "\n" not in str(raised.value)


def test_hub_id_needs_the_words(home: Home):
    with pytest.raises(ModelRefused, match="--allow-unverified"):
        quietly("someone/some-model", home)


def test_hub_out_of_reach_is_one_line(home: Home, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("huggingface_hub", reason="only in an engine's environment")
    # As without a network, but at once.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(ModelUnavailable, match="someone/some-model cannot be fetched") as raised:
        quietly("someone/some-model", allowed(home))

    assert "\n" not in str(raised.value)


def test_no_reference_means_the_default_model(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[Path] = []

    def ensure(registry: Registry, cache: Path, on_progress: object) -> None:
        asked.append(cache)
        register(home, tmp_path, resolve_module.DEFAULT_MODEL)

    monkeypatch.setattr(resolve_module, "ensure_default_model", ensure)

    source = quietly(None, home)

    assert asked == [home.home / "cache"]
    assert source.served_name == "smollm2-135m-instruct"


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"peft_type": "IA3"}, "ia3"),
        ({"peft_type": "LORA", "use_dora": True, "r": 8}, "dora"),
        ({"peft_type": "BOTTLENECK", "width": 8, "targets": ["o_proj"]}, "bottleneck"),
    ],
)
def test_adapters_that_engines_cannot_serve_are_refused(
    home: Home, tmp_path: Path, config: dict[str, object], kind: str
):
    base = register(home, tmp_path, "base")
    folder = tmp_path / "made" / "adapter"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    home.registry.register(
        folder, "tuned", ManifestDraft(kind="adapter", base=CheckpointRef(ref=base.ref, digest=base.digest))
    )

    with pytest.raises(ModelRefused, match=f"^tuned@1 is an adapter of kind {kind}, and the engine serves lora alone"):
        quietly("tuned", home)


def test_adapter_is_loaded_on_the_base_it_was_trained_on(home: Home, tmp_path: Path):
    base = register(home, tmp_path, "base")
    folder = tmp_path / "made" / "adapter"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 12}))
    draft = ManifestDraft(kind="adapter", base=CheckpointRef(ref=base.ref, digest=base.digest))
    adapter = home.registry.register(folder, "tuned", draft)

    source = quietly("tuned", home)

    assert (source.path, source.adapter, source.served_name) == (base.path, adapter.path, "tuned")
    assert source.manifests == {"tuned": adapter.digest, "tuned-base": base.digest}

    change_a_byte(base)
    with pytest.raises(ModelRefused, match="base@1"):
        quietly("tuned", home)


def test_unreadable_file_is_refused_in_one_line(home: Home, tmp_path: Path):
    checkpoint = register(home, tmp_path)
    os.remove(checkpoint.path / "config.json")

    with pytest.raises(ModelRefused, match=r"config\.json is missing"):
        quietly("bot", home)


def test_a_data_set_is_not_served(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"text": "x"}\n')
    home.registry.register(folder, "texts", ManifestDraft(kind="data"))

    with pytest.raises(ModelUnavailable, match="texts@1 is a data set: serve a model that was trained on it"):
        quietly("texts", home)
