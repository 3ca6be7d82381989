"""A model so small that training it takes a second: two layers, a byte-level tokenizer, ChatML."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from training.evaluate import resolve_source
from training.outcome import Context, Outcome
from training.recipes import METHODS, load_recipe
from training.registry import ManifestDraft, Registry

RunRecipe = Callable[..., Outcome]
Train = Callable[..., Outcome]

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with tokenizer and chat template, in bf16 as models come. Do not write to it."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    # Sorted: the set's order changes from run to run, and with it what training learns and how ties of merges fall.
    vocabulary = {token: index for index, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    raw = Tokenizer(models.BPE(vocabulary, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        bos_token="<|im_start|>",
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        chat_template=CHATML,
    )
    tokenizer.save_pretrained(folder)
    torch.set_num_threads(1)  # threads cost more than they bring for matrices of this size
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=2,
        bos_token_id=1,
        tie_word_embeddings=False,
        initializer_range=0.3,  # large, so that adapters on the layers alone move the output
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty SIGNET_HOME."""
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Registry:
    return Registry(home / "registry", home / "keys")


@pytest.fixture
def tiny(store: Registry, tiny_model_folder: Path, tmp_path: Path) -> Registry:
    """A registry that holds the tiny model as `tiny@1`."""
    folder = tmp_path / "to-register"
    shutil.copytree(tiny_model_folder, folder)
    store.register(folder, "tiny", ManifestDraft(kind="base", license="Apache-2.0"))
    return store


WriteChats = Callable[..., Path]


@pytest.fixture
def write_chats(tmp_path: Path) -> WriteChats:
    """A factory of JSONL files: each chat is (user, assistant, user, assistant, …)."""

    def write(name: str, chats: Sequence[Sequence[str]]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps({"messages": turns(chat)}) + "\n" for chat in chats))
        return path

    return write


def turns(texts: Sequence[str]) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    return [{"role": roles[index % 2], "content": text} for index, text in enumerate(texts)]


@pytest.fixture(scope="session")
def run_recipe() -> RunRecipe:
    """Run a recipe in a home, with some settings changed, as `signet train` does."""

    def run(path: Path, home: Path, *overrides: str, ship: bool = False) -> Outcome:
        registry = Registry(home / "registry", home / "keys")
        recipe = load_recipe(path, overrides)
        context = Context(
            recipe_path=path,
            home=home,
            registry=registry,
            find_model=lambda ref: resolve_source(ref, registry, show_progress=False),
            ship=ship,
            show=False,
        )
        return METHODS[recipe.method].run(recipe, context)

    return run


@pytest.fixture
def train(home: Path, run_recipe: RunRecipe) -> Train:
    """`run_recipe` in the test's home."""

    def run(path: Path, *overrides: str, ship: bool = False) -> Outcome:
        return run_recipe(path, home, *overrides, ship=ship)

    return run
