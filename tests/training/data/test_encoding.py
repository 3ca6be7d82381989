from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.data import IGNORED, Chat, ChatEncoder, Example, Message, encode_all
from training.errors import DataError
from training.evaluate.loading import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder: Path) -> Any:
    return load_tokenizer(tiny_model_folder)


def make_chat(*texts: str, system: str | None = None) -> Chat:
    messages = [Message(role="system", content=system)] if system is not None else []
    for index, text in enumerate(texts):
        messages.append(Message(role="assistant" if index % 2 else "user", content=text))
    return Chat(messages=messages, source="chats.jsonl:7")


def labelled_runs(tokenizer: Any, example: Example) -> list[str]:
    """The labelled tokens as text, one string for each unbroken run."""
    runs: list[list[int]] = []
    previous = IGNORED
    for label in example.labels:
        if label != IGNORED:
            if previous == IGNORED:
                runs.append([])
            runs[-1].append(label)
        previous = label
    return [tokenizer.decode(run) for run in runs]


def test_only_what_the_assistant_says_is_labelled(tokenizer: Any) -> None:
    chat = make_chat("Is it open?", "Yes, it is.", "Until when?", "Ten.", system="Be brief.")

    example = ChatEncoder(tokenizer, 512).encode(chat)

    assert labelled_runs(tokenizer, example) == ["Yes, it is.<|im_end|>", "Ten.<|im_end|>"]


def test_tokens_are_exactly_those_of_the_chat_template(tokenizer: Any) -> None:
    chat = make_chat("Is it open?", "Yes, it is.", system="Be brief.")

    example = ChatEncoder(tokenizer, 512).encode(chat)

    expected = tokenizer.apply_chat_template(chat.template_messages(), tokenize=True, return_dict=True)["input_ids"]
    assert example.input_ids == expected
    assert all(label in (IGNORED, token) for label, token in zip(example.labels, example.input_ids, strict=True))


TEXTS = st.text(st.characters(codec="utf-8"), max_size=30).filter(lambda text: "<|" not in text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(st.lists(TEXTS, min_size=2, max_size=6).filter(lambda texts: len(texts) % 2 == 0))
def test_labels_spell_the_answers_whatever_they_say(tokenizer: Any, texts: list[str]) -> None:
    example = ChatEncoder(tokenizer, 4096).encode(make_chat(*texts))

    assert labelled_runs(tokenizer, example) == [f"{answer}<|im_end|>" for answer in texts[1::2]]


def test_answer_equal_to_the_question_is_not_confused(tokenizer: Any) -> None:
    example = ChatEncoder(tokenizer, 512).encode(make_chat("assistant", "assistant", "assistant", "assistant"))

    assert labelled_runs(tokenizer, example) == ["assistant<|im_end|>"] * 2


def test_long_chat_is_cut_and_counted_as_such(tokenizer: Any) -> None:
    whole = ChatEncoder(tokenizer, 512).encode(make_chat("Hello?", "A long answer."))
    cut = ChatEncoder(tokenizer, len(whole.input_ids) - 5).encode(make_chat("Hello?", "A long answer."))

    assert cut.input_ids == whole.input_ids[:-5]
    assert whole.num_targets == len("A long answer.") + 1
    assert cut.num_targets == whole.num_targets - 4  # the newline after the closing token has no label


def test_chats_whose_answers_lie_behind_the_cut_are_left_out(tokenizer: Any) -> None:
    encoder = ChatEncoder(tokenizer, 60)
    short, long = make_chat("Hi", "Hello."), make_chat("H" * 80, "Hello.")

    assert [example.num_targets for example in encode_all(encoder, [short, long])] == [7]
    with pytest.raises(DataError, match=r"chats\.jsonl:7: no answer begins within max_tokens"):
        encode_all(encoder, [long])


def test_control_tokens_in_the_text_are_refused(tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"chats\.jsonl:7: the user says the control token <\|im_end\|>"):
        ChatEncoder(tokenizer, 512).encode(make_chat("hi<|im_end|>", "Hello."))


@pytest.fixture
def other_template(tiny_model_folder: Path) -> Any:
    """A tokenizer of its own, so that its template may be replaced."""
    return load_tokenizer(tiny_model_folder)


def test_template_that_rewrites_the_past_is_refused(other_template: Any) -> None:
    # As templates do that drop the reasoning of all answers but the last.
    other_template.chat_template = (
        "{% for m in messages %}{{ m.role }}: {% if loop.last %}{{ m.content }}{% endif %}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )

    with pytest.raises(DataError, match=r"chats\.jsonl:7: the model's chat template changes earlier turns"):
        ChatEncoder(other_template, 512).encode(make_chat("a", "b", "c", "d"))


def test_template_that_refuses_is_quoted(other_template: Any) -> None:
    other_template.chat_template = "{{ raise_exception('no system messages please') }}"

    with pytest.raises(DataError, match=r"chats\.jsonl:7: .* refuses this chat: no system messages please"):
        ChatEncoder(other_template, 512).encode(make_chat("a", "b"))


@pytest.mark.engine
def test_default_models_template_labels_the_answers(model_folder: Path) -> None:
    tokenizer = load_tokenizer(model_folder)
    chat = make_chat("Is it open?", " Yes, it is. \n", "Until\nwhen?", "Ten. 🌱", system="Be brief.")

    example = ChatEncoder(tokenizer, 512).encode(chat)

    assert labelled_runs(tokenizer, example) == [" Yes, it is. \n<|im_end|>", "Ten. 🌱<|im_end|>"]
