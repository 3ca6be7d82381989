"""Marks on an engine that loads a LoRA adapter on its base: answers of both are marked, in one batch."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from serving.provenance import Keyring, MarkKey
from serving.provenance.detection import detect
from tests.support.engine_client import EngineClient
from tests.support.running import running_engine
from tests.support.stack import DEFAULT_MODEL, fresh_home
from training.registry import CheckpointRef, ManifestDraft, Registry

pytestmark = [pytest.mark.engine, pytest.mark.slow]

SCHEMES = ("gumbel", "dual-gumbel", "synthid", "kgw")


@pytest.fixture(scope="module")
def home(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which an adapter of the default model is registered; random, so that it changes every answer."""
    home = fresh_home(prepared_home, tmp_path_factory.mktemp("lora") / "home")
    registry = Registry(home / "registry", home / "keys")
    base = registry.resolve(DEFAULT_MODEL)
    torch.manual_seed(0)
    config = LoraConfig(r=8, lora_alpha=32, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base.path), config).save_pretrained(home / "adapter")
    draft = ManifestDraft(kind="adapter", base=CheckpointRef(ref=base.ref, digest=base.digest))
    registry.register(home / "adapter", "tuned", draft)
    return home


@pytest.fixture(scope="module")
def key(home: Path) -> MarkKey:
    return Keyring.open(home / "keyring.json", create=True).mark_key("lora-test")


@pytest.fixture(scope="module")
def engines(home: Path, key: MarkKey) -> Iterator[dict[str, EngineClient]]:
    with running_engine(home, "tuned") as url:
        clients = {name: EngineClient(url, key, name) for name in ("tuned", "tuned-base")}
        yield clients
        for client in clients.values():
            client.close()


def test_answers_of_adapter_and_base_are_marked(engines: dict[str, EngineClient], key: MarkKey) -> None:
    asked = [(client, scheme) for client in engines.values() for scheme in SCHEMES]

    def token_ids(case: tuple[EngineClient, str]) -> list[int]:
        client, scheme = case
        [choice] = client.choices(scheme, temperature=1.0, min_tokens=120, max_tokens=120)
        ids: list[int] = choice["token_ids"]
        return ids

    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(token_ids, asked))
    greedy = [client.choices(None, temperature=0, max_tokens=20)[0]["token_ids"] for client in engines.values()]

    for (client, scheme), answer in zip(asked, answers, strict=True):
        assert detect(answer, [key], 1e-2, schemes=[scheme]).marked, (client.model, scheme)
    assert greedy[0] != greedy[1]
