"""Whatever a chat template writes, an answer ends with a token that the model learns: else it would never stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import chat_templates
from training.data import IGNORED, Chat, ChatEncoder, Message
from training.data.encoding import Example
from training.errors import DataError

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Closes a turn only when something follows it.
LATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% if not loop.last or add_generation_prompt %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt and messages[-1].role != 'assistant' %}<|im_start|>assistant\n{% endif %}"
)
NEVER = (
    "{% for m in messages %}{{ m.role | upper }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)
BY_THE_NEXT = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
INSTRUCT = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}{{ eos_token }}"
    "{% else %}[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}"
)
COLON = (
    "{% for m in messages %}{{ m.role | upper }}: {{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}"
    "{% endif %} {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
OWN = {
    "CHATML": (CHATML, "<|im_end|>"),
    "LATE": (LATE, "<|im_end|>"),
    "NEVER": (NEVER, "</s>"),
    "BY_THE_NEXT": (BY_THE_NEXT, "</s>"),
    "INSTRUCT": (INSTRUCT, "</s>"),
    "COLON": (COLON, "</s>"),
}
CLOSING = dict.fromkeys(chat_templates.ALL, "<|im_end|>") | {"NAMES": "<|end|>", "TOOLS": "</s>"}
# All but one that writes the assistant's words as a user's.
CASES = OWN | {name: (template, CLOSING[name]) for name, template in chat_templates.ALL.items() if name != "WIDE"}
# Only the last answer can get a token that these do not write.
LAST_ONLY = {"NEVER", "BY_THE_NEXT"}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = sorted({*chat_templates.TOKENS, "<|endoftext|>"} - {"<think>", "</think>"})
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({token: place for place, token in enumerate(special + alphabet)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(special)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", bos_token="<s>")


def learned(tokenizer: Any, example: Example) -> list[str]:
    runs: list[list[int]] = [[]]
    for label in example.labels:
        if label != IGNORED:
            runs[-1].append(label)
        elif runs[-1]:
            runs.append([])
    return [tokenizer.decode(run, skip_special_tokens=False) for run in runs if run]


@pytest.mark.parametrize("name", CASES)
def test_the_closing_token_is_learned_and_nothing_after_it(name: str, tokenizer: Any) -> None:
    tokenizer.chat_template, closing = CASES[name]
    chat = Chat(messages=[Message(role="user", content="is it open?"), Message(role="assistant", content="until ten.")])

    example = ChatEncoder(tokenizer, 512).encode(chat)

    assert [text.strip() for text in learned(tokenizer, example)] == [f"until ten.{closing}"]


@pytest.mark.parametrize("name", sorted(set(CASES) - LAST_ONLY))
def test_every_answer_of_a_chat_is_closed(name: str, tokenizer: Any) -> None:
    tokenizer.chat_template, closing = CASES[name]
    roles = ["user", "assistant", "user", "assistant"]
    texts = ["is it open?", "yes.", "yes.", "until ten."]
    chat = Chat(messages=[Message(role=role, content=text) for role, text in zip(roles, texts, strict=True)])

    example = ChatEncoder(tokenizer, 512).encode(chat)

    assert [text.strip() for text in learned(tokenizer, example)] == [f"yes.{closing}", f"until ten.{closing}"]


def _shipped_with_vllm() -> list[Path]:
    import importlib.util

    spec = importlib.util.find_spec("vllm")
    folder = Path(spec.origin).parent if spec and spec.origin else Path("absent")
    return sorted((folder / "transformers_utils" / "chat_templates").glob("*.jinja"))


@pytest.mark.parametrize("path", _shipped_with_vllm(), ids=lambda path: path.stem)
def test_templates_that_come_with_the_engine_close_answers(path: Path, tokenizer: Any) -> None:
    tokenizer.chat_template = path.read_text()
    chat = Chat(messages=[Message(role="user", content="is it open?"), Message(role="assistant", content="until ten.")])
    if "conversations" in path.read_text():  # another field than chats have
        with pytest.raises(DataError, match="chat template"):
            ChatEncoder(tokenizer, 512).encode(chat)
        return

    example = ChatEncoder(tokenizer, 512).encode(chat)

    (said,) = learned(tokenizer, example)
    assert said.strip().startswith("until ten.")
    assert said.endswith(("<|im_end|>", "</s>"))


def test_a_template_that_writes_answers_as_questions_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = chat_templates.WIDE
    chat = Chat(messages=[Message(role="user", content="is it open?"), Message(role="assistant", content="until ten.")])

    with pytest.raises(DataError, match="chat template"):
        ChatEncoder(tokenizer, 512).encode(chat)
