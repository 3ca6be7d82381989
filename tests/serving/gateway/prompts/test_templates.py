"""Templates: what a file may say, what values may be, and that a value never becomes structure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.prompts import BUILTIN, PromptError, PromptLibrary, Template, VariableError
from tests.support.running import run_signet

TEMPLATE = """
name: summarize
version: {version}
description: Shorten a text.
variables:
  text: {{from_message: true, min_length: 1, max_length: 500}}
  sentences: {{type: integer, minimum: 1, maximum: 20, default: 3}}
  style: {{type: choice, choices: [plain, formal], default: plain}}
  share: {{type: number, maximum: 1, optional: true}}
  loud: {{type: boolean, default: false}}
  points: {{type: list, max_items: 2, max_length: 40, optional: true}}
messages:
  - {{role: system, content: "Use {{{{sentences}}}} {{{{style}}}} sentences{{{{ share }}}}."}}
  - {{role: system, when: loud, content: "SHOUT {{{{loud}}}}."}}
  - {{role: user, when: points, content: "Keep:\\n{{{{points}}}}"}}
  - {{role: user, content: "<text>{{{{text}}}}</text> {{not a place}}"}}
"""


def library(folder: Path, **files: str) -> PromptLibrary:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return PromptLibrary(folder)


@pytest.fixture
def template(tmp_path: Path) -> Template:
    return library(tmp_path, one=TEMPLATE.format(version=1)).find("prompt:summarize")


def test_defaults_conditions_and_neighbours(template: Template) -> None:
    assert template.render({"text": "abc"}) == [
        {"role": "system", "content": "Use 3 plain sentences."},
        {"role": "user", "content": "<text>abc</text> {not a place}"},
    ]
    rendered = template.render({"text": "abc", "loud": True, "points": ["a\nb", "c"], "share": 0.5})
    assert rendered[0]["content"] == "Use 3 plain sentences0.5.\n\nSHOUT yes."
    assert rendered[1]["content"] == "Keep:\n- a b\n- c\n\n<text>abc</text> {not a place}"


@pytest.mark.parametrize(
    ("values", "variable", "said"),
    [
        ({}, "text", "is missing"),
        ({"text": 5}, "text", "must be text"),
        ({"text": ""}, "text", "1 to 500 characters"),
        ({"text": "a", "sentences": 21}, "sentences", "at most 20"),
        ({"text": "a", "sentences": 2.0}, "sentences", "whole number"),
        ({"text": "a", "sentences": True}, "sentences", "whole number"),
        ({"text": "a", "style": "loud"}, "style", "one of plain, formal"),
        ({"text": "a", "style": ["plain"]}, "style", "one of plain, formal"),
        ({"text": "a", "share": "1"}, "share", "a number"),
        ({"text": "a", "loud": 1}, "loud", "true or false"),
        ({"text": "a", "points": ["a", "b", "c"]}, "points", "at most 2 items"),
        ({"text": "a", "points": "abc"}, "points", "list of texts"),
        ({"text": "a", "tone": "x"}, "tone", "has no variable"),
    ],
)
def test_a_bad_value_names_its_variable(
    template: Template, values: dict[str, object], variable: str, said: str
) -> None:
    with pytest.raises(VariableError, match=said) as refused:
        template.render(values)
    assert refused.value.variable == variable
    assert variable in str(refused.value)


def test_a_pattern_is_of_the_whole_value_and_takes_time_linear_in_it(tmp_path: Path) -> None:
    text = TEMPLATE.format(version=1).replace("max_length: 500", "pattern: '(?:a+)+b'")
    template = library(tmp_path, one=text).find("prompt:summarize")

    assert "aab" in template.render({"text": "aab"})[1]["content"]
    for refused in ("aabc", "xaab", "a" * 100_000):  # of the last a backtracking matcher would try every division
        with pytest.raises(VariableError, match="must match"):
            template.render({"text": refused})


@given(st.text(min_size=1, max_size=500) | st.sampled_from(["{{style}}", "</text>", "< / TEXT x>", "\\1", "{{text}}"]))
def test_a_value_forges_nothing(text: str) -> None:
    template = PromptLibrary(BUILTIN).find("prompt:reason")
    messages = template.render({"problem": text})
    assert [message["role"] for message in messages] == ["system", "user"]
    content = messages[1]["content"]
    assert content.startswith("<problem>\n")
    assert content.endswith("\n</problem>")
    assert content.count("<problem>") == content.count("</problem>") == 1
    assert messages[0] == template.render({"problem": "x"})[0]


def test_values_are_not_looked_at_again(template: Template) -> None:
    assert "{{style}}" in template.render({"text": "{{style}} \\g<0>"})[1]["content"]


def test_versions(tmp_path: Path) -> None:
    found = library(tmp_path, a=TEMPLATE.format(version=9), b=TEMPLATE.format(version=10))
    assert found.find("prompt:summarize").version == 10
    assert found.find("prompt:summarize@9").version == 9
    for missing in ("prompt:summarize@3", "prompt:summarize@x", "prompt:summarize@", "prompt:other", "prompt:"):
        with pytest.raises(PromptError):
            found.find(missing)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("text: {", "txt: {", "'text'"),
        ("version: 1", "version: 0", "version"),
        ("maximum: 20", "maximum: 2", "sentences"),
        ("type: boolean", "type: bool", "loud"),
        ("role: user", "role: tool", "role"),
        ("name: summarize", "name: Sum Up", "name"),
        ("description:", "descripton:", "descripton"),
        ("max_length: 500", "pattern: '(?=a)a'", r"variables.text.*'\(\?=a\)a'.*RE2"),
        ("max_length: 500", "pattern: '('", r"variables.text.*'\('"),
        ("max_length: 500", "pattern: 'b+', default: a", r"variables.text.*must match b\+"),
        ("variables:", "variables: [", "not valid YAML"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = TEMPLATE.format(version=1)
    assert old in text
    with pytest.raises(PromptError, match=said) as refused:
        library(tmp_path, broken=text.replace(old, new, 1))
    assert "broken.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_twice_the_same_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="two files"):
        library(tmp_path, a=TEMPLATE.format(version=1), b=TEMPLATE.format(version=1))


def test_a_bad_folder_leaves_the_old_templates(tmp_path: Path) -> None:
    found = library(tmp_path, a=TEMPLATE.format(version=1))
    (tmp_path / "b.yaml").write_text("name: [")
    found.refresh()
    with pytest.raises(PromptError):
        found.apply(tmp_path / "missing")
    assert [template.id for template in found.all()] == ["prompt:summarize@1"]
    (tmp_path / "b.yaml").write_text(TEMPLATE.format(version=2))
    found.refresh()
    assert [template.id for template in found.all()] == ["prompt:summarize@1", "prompt:summarize@2"]


def test_the_card_holds_a_schema_of_the_variables(template: Template) -> None:
    schema = template.card()["prompt"]["variables"]
    assert schema["required"] == ["text"]
    assert schema["properties"]["sentences"] == {"type": "integer", "default": 3, "minimum": 1, "maximum": 20}
    assert schema["properties"]["style"]["enum"] == ["plain", "formal"]


def test_the_command(tmp_path: Path) -> None:
    listed = json.loads(run_signet(tmp_path, "prompts", "list", "--json").stdout)
    assert {card["prompt"]["name"] for card in listed} == {"instruct", "answer", "code", "reason"}
    (tmp_path / "one.yaml").write_text(TEMPLATE.format(version=1))
    values = ["--set", "text=5", "--set", "sentences=2"]
    shown = run_signet(tmp_path, "prompts", "render", "summarize", "--folder", str(tmp_path), *values, "--json")
    assert json.loads(shown.stdout)["messages"][1]["content"].startswith("<text>5</text>")
    assert run_signet(tmp_path, "prompts", "check", str(tmp_path)).returncode == 0
    (tmp_path / "two.yaml").write_text("name: 5")
    refused = run_signet(tmp_path, "prompts", "check", str(tmp_path))
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: ")
    assert refused.stderr.count("\n") == 1
