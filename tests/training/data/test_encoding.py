from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.data import IGNORED, Chat, ChatEncoder, Example, Message, encode_all
from training.errors import DataError
from training.evaluate.loading import load_chat_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder: Path) -> Any:
    return load_chat_tokenizer(tiny_model_folder)


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
    return load_chat_tokenizer(tiny_model_folder)


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
    tokenizer = load_chat_tokenizer(model_folder)
    chat = make_chat("Is it open?", " Yes, it is. \n", "Until\nwhen?", "Ten. 🌱", system="Be brief.")

    example = ChatEncoder(tokenizer, 512).encode(chat)

    assert labelled_runs(tokenizer, example) == [" Yes, it is. \n<|im_end|>", "Ten. 🌱<|im_end|>"]


def test_an_answer_of_weight_0_is_read_and_not_learned(tokenizer: Any) -> None:
    chat = make_chat("Is it open?", "Yes, it is.", "Until when?", "Ten.")
    chat.messages[1].weight = 0
    same = make_chat("Is it open?", "Yes, it is.", "Until when?", "Ten.")

    example, full = (ChatEncoder(tokenizer, 512).encode(messages) for messages in (chat, same))

    assert labelled_runs(tokenizer, example) == ["Ten.<|im_end|>"]
    assert example.input_ids == full.input_ids


# How models' templates write a call's arguments: with tojson, item by item, or whichever the message has.
TOJSON = "{{ call.function.arguments | tojson }}"
ITEMS = "{% for name, value in call.function.arguments.items() %}<{{ name }}>{{ value }}</{{ name }}>{% endfor %}"
EITHER = (
    "{% if call.function.arguments is string %}{{ call.function.arguments }}"
    "{% else %}{{ call.function.arguments | tojson }}{% endif %}"
)
WHOLE = "{{ call | tojson }}"
TEMPLATE = (
    "{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n"
    "{{% if m.content is none %}}NONE{{% else %}}{{{{ m.content }}}}{{% endif %}}"
    "{{% for call in m.tool_calls or [] %}}{{{{ call.function.name }}}}({arguments}){{% endfor %}}<|im_end|>\n"
    "{{% endfor %}}{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo", "days": 2}'}}
# What vLLM 0.32 hands to a template for the chat below (`vllm.renderers.chat_utils`).
AS_SERVED = [
    {"role": "user", "content": "How is it?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "weather", "arguments": {"city": "Oslo", "days": 2}},
            }
        ],
    },
    {"role": "tool", "content": "rain", "tool_call_id": "c1"},
    {"role": "assistant", "content": "Rain."},
]


def chat_with_a_call(arguments: Any) -> Chat:
    call = {**CALL, "function": {"name": "weather", "arguments": arguments}}
    return Chat(
        messages=[
            Message(role="user", content="How is it?", mood="curious"),  # type: ignore[call-arg]
            Message(role="assistant", tool_calls=[call], weight=1),
            Message(role="tool", content="rain", tool_call_id="c1"),  # type: ignore[call-arg]
            Message(role="assistant", content="Rain.", tool_calls=[]),
        ],
        tools=[{"type": "function", "function": {"name": "weather"}}],
        source="chats.jsonl:7",
    )


@pytest.mark.parametrize("arguments", ['{"city": "Oslo", "days": 2}', {"city": "Oslo", "days": 2}])
@pytest.mark.parametrize("written", [TOJSON, ITEMS, EITHER, WHOLE], ids=["tojson", "items", "either", "whole"])
def test_training_renders_calls_as_serving_does(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch, written: str, arguments: Any
) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", TEMPLATE.format(arguments=written))
    chat = chat_with_a_call(arguments)

    example = ChatEncoder(tokenizer, 512).encode(chat)

    assert chat.template_messages() == AS_SERVED
    assert (
        example.input_ids
        == tokenizer(tokenizer.apply_chat_template(AS_SERVED, tokenize=False), add_special_tokens=False)["input_ids"]
    )
    assert "Oslo" in labelled_runs(tokenizer, example)[0]


def test_tools_are_described_as_serving_describes_them() -> None:
    assert chat_with_a_call("{}").template_tools() == [
        {"type": "function", "function": {"name": "weather", "description": None, "parameters": None}}
    ]


@pytest.mark.parametrize("arguments", [None, "", {}, "{}"])
def test_a_call_without_arguments_has_an_empty_object(arguments: Any) -> None:
    assert chat_with_a_call(arguments).template_messages()[1]["tool_calls"][0]["function"]["arguments"] == {}


def test_a_control_token_in_escapes_of_arguments_is_refused(tokenizer: Any) -> None:
    chat = chat_with_a_call('{"city": "\\u003c|im_end|\\u003e"}')

    with pytest.raises(DataError, match=r"the assistant says the control token <\|im_end\|>"):
        ChatEncoder(tokenizer, 512).encode(chat)


@pytest.mark.slow
def test_messages_are_those_that_vllm_makes() -> None:
    """vLLM's own functions on the same chat; they are private, so a version without them is skipped."""
    renderers = pytest.importorskip("vllm.renderers.chat_utils", reason="needs vLLM")
    tracker = MagicMock()
    tracker.create_parser.return_value.mm_placeholder_storage.return_value = {}
    chat = chat_with_a_call('{"city": "Oslo", "days": 2}')

    asked = [message.model_dump(exclude_none=True) for message in chat.messages]
    made = [parsed for m in asked for parsed in renderers._parse_chat_message_content(m, tracker, "string", False)]
    renderers._postprocess_messages(made)

    assert made == chat.template_messages() == AS_SERVED
