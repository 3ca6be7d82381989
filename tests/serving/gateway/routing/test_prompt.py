from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.engines.seen import SeenPrefixes
from serving.gateway.routing.prompt import MAX_BLOCKS, read_affinity, read_prompt, session_key
from serving.gateway.settings.routing import RoutingSettings

SYSTEM = {"role": "system", "content": "You are a careful assistant. " * 100}


def chat(*texts: str, system: dict[str, Any] | None = SYSTEM) -> dict[str, Any]:
    roles = ("user", "assistant")
    turns = [{"role": roles[number % 2], "content": text} for number, text in enumerate(texts)]
    return {"messages": [*([system] if system else []), *turns]}


def test_the_next_turn_begins_with_the_one_before() -> None:
    first, second = read_prompt(chat("What is it?")), read_prompt(chat("What is it?", "It is that.", "And then?"))
    assert first is not None
    assert second is not None
    assert second.chain[: len(first.chain)] == first.chain
    assert (second.root, second.conversation) == (first.root, first.conversation)
    seen = SeenPrefixes()
    seen.note(first.chain)
    assert second.chars_seen(seen) == first.chars == len(SYSTEM["content"]) + len("What is it?")


def test_under_another_salt_a_prompt_is_another() -> None:
    body = chat("What is it?")
    plain, own, others = read_prompt(body), read_prompt(body, "own"), read_prompt(body, "others")
    assert plain is not None
    assert own is not None
    assert others is not None
    assert not {*own.chain} & {*others.chain, *plain.chain}
    assert len({own.root, others.root, plain.root}) == 3
    one, other = (
        read_prompt(chat("One? " * 300, system=None), "own"),
        read_prompt(chat("Two? " * 300, system=None), "own"),
    )
    assert one is not None
    assert other is not None
    assert one.root != other.root


def test_questions_below_one_system_prompt_share_its_root_and_nothing_else() -> None:
    one, other = read_prompt(chat("One?")), read_prompt(chat("Other?"))
    assert one is not None
    assert other is not None
    assert one.root == other.root
    assert one.conversation != other.conversation
    assert read_prompt(chat("One?", system={"role": "system", "content": "x" * 600})).root != one.root


def test_what_is_written_before_the_messages_counts() -> None:
    plain, tools = chat("What?"), {**chat("What?"), "tools": [{"type": "function", "function": {"name": "f"}}]}
    assert read_prompt(plain).chain != read_prompt(tools).chain
    assert read_prompt({"messages": [], "instructions": "x" * 600}).chars == 600


def test_all_forms_of_a_prompt_are_read() -> None:
    text = "word " * 200
    parts = [{"type": "text", "text": text}]
    assert read_prompt(chat(text, system=None)).chain == read_prompt({"prompt": text}).chain
    assert read_prompt({"messages": [{"role": "user", "content": parts}]}).chain == read_prompt({"prompt": text}).chain
    assert read_prompt({"prompt": [text, "another"]}).chain == read_prompt({"prompt": text}).chain
    assert read_prompt({"input": text}).chain == read_prompt({"prompt": text}).chain
    assert read_prompt({"prompt": list(range(1000))}) is not None
    image = [*parts, {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}}]
    assert read_prompt({"messages": [{"role": "user", "content": image}]}).chars > 4000


def test_short_prompts_and_long_ones_cost_little() -> None:
    assert read_prompt(chat("Hello", system=None)) is None
    assert read_prompt({}) is None
    assert len(read_prompt({"prompt": "x" * 10_000_000}).chain) == MAX_BLOCKS


_LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text()
_FIELDS = st.sampled_from(["role", "content", "text"])


@given(st.recursive(_LEAVES, lambda inner: st.lists(inner) | st.dictionaries(_FIELDS, inner)))
def test_whatever_clients_send_is_read_without_an_error(value: Any) -> None:
    for body in ({"messages": value}, {"messages": [value]}, {"prompt": value}, {"input": value}, {"tools": value}):
        prompt = read_prompt(body)
        assert prompt is None or (prompt.chars > 0 and len(prompt.chain) <= MAX_BLOCKS)
        assert isinstance(session_key({}, {**body, "user": value}), int | None)


def test_the_hashes_are_the_same_in_every_process() -> None:
    code = (
        "from serving.gateway.routing.prompt import read_prompt, session_key\n"
        "print(read_prompt({'prompt': 'x' * 3000}).chain, session_key({b'x-session-id': b'me'}, {}))"
    )
    seeds = ("1", "2")
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.getcwd()},
            capture_output=True,
            check=True,
        ).stdout
        for seed in seeds
    }
    assert len(printed) == 1


def test_a_session_is_named_by_header_or_field() -> None:
    assert session_key({b"x-session-id": b"a"}, {"user": "b"}) == session_key({}, {"user": "a"})
    assert session_key({}, {"prompt_cache_key": "a", "user": "b"}) == session_key({}, {"user": "a"})
    assert session_key({}, {"user": 3}) is None


def test_settings_turn_either_off() -> None:
    body = {**chat("What?"), "user": "a"}
    assert read_affinity({}, body, RoutingSettings(prefix=False), "").prompt is None
    assert read_affinity({}, body, RoutingSettings(session_chars=0), "").session is None


def test_memory_is_bounded_and_the_oldest_leaves_go_first() -> None:
    seen = SeenPrefixes(capacity=10)
    seen.note([1, 2, 3, 4, 5])
    seen.note([1, 2, 30, 40, 50, 60, 70])
    assert len(seen) == 10
    assert seen.depth([1, 2, 30, 40, 50, 60, 70]) == 7
    assert seen.depth([1, 2, 3, 4, 5]) == 5
    seen.note([100])
    assert seen.depth([1, 2, 3, 4, 5]) == 4
    for number in range(1000):
        seen.note([number, -number - 1])
    assert len(seen) == 10
