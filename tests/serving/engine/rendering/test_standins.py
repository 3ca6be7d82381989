"""What stays of a client's words in a stand-in, and what it costs."""

from __future__ import annotations

import pytest

from serving.engine.rendering.standins import StandIns

TEMPLATE = (
    "{% set begin = '<|im_start|>' %}{% for m in messages %}{{ begin ~ m.role }}"
    "{{ m.content.split('</think>')[-1] if '<think>' in m.content else m.content }}{{ '<|im_end|>' }}"
    "{% if m.effort == 'high' %}{{ 'low' }}{% endif %}{% endfor %}"
)
STAND_INS = StandIns(TEMPLATE, ["<|im_start|>", "<|im_end|>"], ["<tool_call>"])


@pytest.mark.parametrize(
    ("text", "stand_in"),
    [
        ("a b\n <c>", "x x\n xxx"),
        ("", ""),
        (" \t\n", " \t\n"),
        ("\u4e2d\u6587 \u00e9", "xx x"),
        ("<think>so</think>then", "<think>xx</think>xxxx"),
        ("<tool_call>{", "<tool_call>x"),
        # What is only written, and what marks structure: nothing looks for it in a text.
        ("low <|im_start|>", "xxx xxxxxxxxxxxx"),
        ("high", "high"),
    ],
)
def test_only_what_a_template_looks_for_stays(text: str, stand_in: str) -> None:
    assert STAND_INS.value(text) == stand_in
    assert len(STAND_INS.value(text)) == len(text)


def test_numbers_roles_types_and_the_templates_names_stay() -> None:
    message = {"role": "critic", "content": ["a", 1, None, True], "effort": 2.5, "mine": {"type": "odd", "a": "<odd>"}}

    assert STAND_INS.value(message) == {
        "role": "critic",
        "content": ["x", 1, None, True],
        "effort": 2.5,
        "xxxx": {"xxxx": "odd", "x": "xxxxx"},
    }


@pytest.mark.timeout(60)
def test_many_fields_stay_as_many_in_linear_time() -> None:
    fields = {f"{number:06}": number for number in range(50_000)} | {f"xxxxxx{number}": 0 for number in range(50_000)}

    assert len(STAND_INS.value(fields)) == 100_000
