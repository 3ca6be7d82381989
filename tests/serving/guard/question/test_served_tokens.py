"""Control tokens are read from the files of the served model's tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.guard import control_tokens_of


def write(folder: Path, name: str, content: object) -> None:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def test_special_and_structural_added_tokens_are_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        "tokenizer.json",
        {
            "added_tokens": [
                {"content": "<s>", "special": True},
                {"content": "<|eot|>", "special": True},
                {"content": "<tool_call>", "special": False},
                {"content": "[TOOL_CALLS]", "special": False},
                {"content": "<table>", "special": False},
                {"content": "\n\n", "special": False},
                {"content": "    ", "special": True},
                {"content": "hello", "special": False},
            ]
        },
    )

    assert control_tokens_of(tmp_path) == {"<s>", "<|eot|>", "<tool_call>", "[TOOL_CALLS]"}


def test_tokens_of_the_configuration_are_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        "tokenizer_config.json",
        {
            "added_tokens_decoder": {
                "7": {"content": "<|a|>", "special": True},
                "8": {"content": "<br>", "special": False},
            },
            "bos_token": "<bos>",
            "eos_token": {"content": "<eos>"},
            "pad_token": None,
            "additional_special_tokens": ["<|b|>", {"content": "<|c|>"}],
            "extra_special_tokens": {"image_token": "<|img|>"},
            "model_max_length": 2048,
        },
    )
    write(tmp_path, "special_tokens_map.json", {"unk_token": "<unk>"})
    write(tmp_path, "added_tokens.json", {"<|d|>": 9, "word": 10})

    assert control_tokens_of(tmp_path) == {
        *("<|a|>", "<bos>", "<eos>", "<|b|>", "<|c|>", "<|img|>", "<unk>", "<|d|>"),
    }


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json"])
def test_structure_that_only_the_template_writes_is_read(tmp_path: Path, name: str) -> None:
    template = (
        "{{ '[INST] ' + '<<SYS>>' + m.content + '[/INST]' }}<|turn|>{% if a < b %}<start_of_turn>{{ x[0] }}{% endif %}"
    )
    write(
        tmp_path,
        name,
        template if name.endswith("jinja") else {"chat_template": [{"name": "default", "template": template}]},
    )

    assert control_tokens_of(tmp_path) == {"[INST]", "<<SYS>>", "[/INST]", "<|turn|>", "<start_of_turn>"}


def test_a_folder_without_tokenizer_has_none(tmp_path: Path) -> None:
    assert control_tokens_of(tmp_path) == frozenset()


def test_a_broken_file_is_an_error_in_one_line(tmp_path: Path) -> None:
    write(tmp_path, "tokenizer.json", "{")

    with pytest.raises(ValueError, match=r"cannot read .*tokenizer\.json: .*Restore"):
        control_tokens_of(tmp_path)
