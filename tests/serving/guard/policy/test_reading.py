"""Policy files: read, told what is wrong with them, and named by a digest of what they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.guard.policy import PolicyError, read_policy
from serving.guard.policy import reading as reading_module

GOOD = """\
version: 1
principles:
  - id: one
    principle: No.
    check: {words: [bad]}
    action: refuse
    reason: Not here.
"""
EXAMPLES = Path(reading_module.__file__).parent / "examples"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(GOOD)
    return path


def changed(file: Path, old: str, new: str) -> Path:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return file


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("action: refuse", "action: refuse\n    actoin: mask", ":7: principles.0.actoin: there is no such key."),
        ("action: refuse", "action: forbid", ":6: principles.0.action: Input should be 'allow', 'flag'"),
        ("    reason: Not here.\n", "", ":3: principles.0: an action of 'refuse' needs a 'reason'"),
        ("version: 1", "version: 2", ":1: version: Input should be 1."),
        ("version: 1\n", "", ":1: version: is missing."),
        ("id: one", "id: One", ":3: principles.0.id: an id is small letters"),
        ("id: one", "id: email-address", ":3: principles.0.id: 'EMAIL_ADDRESS' is what the guard puts"),
        ("{words: [bad]}", "{}", ":5: principles.0.check: give one of: words"),
        ("{words: [bad]}", "{words: [bad], judge: {question: x}}", ":5: principles.0.check: give one of: words"),
        ("{words: [bad]}", "{entity: {name: EMAIL}}", ":5: principles.0.check.entity.name: unknown entity 'EMAIL'"),
        ("{words: [bad]}", "{pattern: ['(a)\\1']}", "pattern '(a)\\\\1': invalid escape"),
        ("{words: [bad]}", "{classifier: {name: a, category: b, above: 2}}", "above: Input should be less than"),
        ("action: refuse", "action: revise", "'revise' is for answers"),
        ("{words: [bad]}\n    action: refuse", "{pattern: ['a+']}\n    action: mask", "may be longer than 256"),
        ("{words: [bad]}\n    action: refuse", "{judge: {question: x}}\n    action: mask", "'mask' needs words"),
        ("action: refuse", "action: mask\n    roles: [user]", "'mask' takes no roles"),
        ("version: 1", "version: 1\nversion: 1", ":2: not valid YAML: 'version' is given twice."),
        ("principles:", "principles: [", "not valid YAML"),
    ],
)
def test_a_mistake_is_told_with_its_line(file: Path, old: str, new: str, said: str):
    with pytest.raises(PolicyError) as caught:
        read_policy(changed(file, old, new))

    assert said in caught.value.problems[0]
    assert caught.value.problems[0].startswith(str(file))
    assert "\n" not in caught.value.problems[0]


def test_two_principles_of_one_id_are_refused(file: Path):
    file.write_text(GOOD + GOOD.split("principles:\n")[1])
    with pytest.raises(PolicyError, match="two principles with the id 'one'"):
        read_policy(file)


def test_a_missing_file_is_told(tmp_path: Path):
    with pytest.raises(PolicyError, match="cannot be read: No such file"):
        read_policy(tmp_path / "none.yaml")


def test_the_digest_is_of_what_the_file_means(file: Path):
    digest = read_policy(file).digest
    reordered = "# a comment\nprinciples:\n- {reason: Not here., action: refuse, id: one, principle: No., "
    file.write_text(reordered + "where: both, check: {words: [bad]}}\nversion: 1\n")
    assert read_policy(file).digest == digest
    assert read_policy(changed(file, "[bad]", "[worse]")).digest != digest


def test_principles_are_picked_by_tenant_and_model(file: Path):
    policy = read_policy(changed(file, "action:", "tenants: [team-*, solo]\n    models: ['small*']\n    action:"))
    concerned = {
        (tenant, model): bool(policy.rules("input", tenant, model))
        for tenant in ("team-a", "solo", "other")
        for model in ("small-1", "large")
    }

    assert concerned == {
        ("team-a", "small-1"): True,
        ("solo", "small-1"): True,
        ("other", "small-1"): False,
        ("team-a", "large"): False,
        ("solo", "large"): False,
        ("other", "large"): False,
    }


def test_the_example_can_be_used():
    assert len(read_policy(EXAMPLES / "constitution.yaml").file.principles) == 6
