"""The benchmark over ordinary work: what it reads, what it calls a false change, how it counts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from serving.guard import Guard, GuardSettings
from training.studies.guard.ordinary_data import GENERATED
from training.studies.guard.ordinary_right import changes, is_right
from training.studies.guard.ordinary_texts import pieces
from training.studies.guard.ordinary_work import lines_of, main, measure, ways


@pytest.mark.parametrize(
    ("before", "after", "detectors"),
    [
        ("a b", "a b", []),
        ("mail a@b.com and c@d.org!", "mail [EMAIL_ADDRESS] and [EMAIL_ADDRESS]!", ["EMAIL_ADDRESS"] * 2),
        ('{"n": 4111111111111111}', '{"n": "[CARD_NUMBER]"}', ["CARD_NUMBER"]),
        ('"4111111111111111"', '"[CARD_NUMBER]"', ["CARD_NUMBER"]),
        ("<script>x", "< script>x", ["markup"]),
        ("a\u200bb", "ab", ["invisible"]),
        ("pass=hunter2x", "pass=[PASSWORD]", ["PASSWORD"]),
        ("x", "y", ["unknown"]),
    ],
)
def test_each_change_is_found(before: str, after: str, detectors: list[str]) -> None:
    found = changes(before, after, mark="markup")

    assert [change.detector for change in found] == detectors


@pytest.mark.parametrize(
    ("before", "after", "right"),
    [
        ("write to joe@example.com", "write to [EMAIL_ADDRESS]", True),
        ("q@k.transpose(-2, -1)", "[EMAIL_ADDRESS](-2, -1)", False),
        ("call 555 123 4567", "call [PHONE_NUMBER]", True),
        ("12 0123 4567 89 1", "12 [PHONE_NUMBER] 1", False),
        ("password = 'hunter2!'", "password = '[PASSWORD]'", True),
        ("password = base64.b64decode(x)", "password = [PASSWORD]", False),
        ("so <img src=x onerror=y>", "so < img src=x onerror=y>", True),
        ("List<int> x", "List< int> x", False),
        ("x [1]: y", "x [1] : y", False),
    ],
)
def test_a_change_is_right_where_a_reader_would_want_it(before: str, after: str, right: bool) -> None:
    (change,) = changes(before, after, mark="markup")

    assert is_right(change, before, after) is right


def test_pieces_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"a{number}.py").write_text("x = 1\n" * 400)
    (tmp_path / "b.bin").write_bytes(b"\xff\x00")

    first = pieces(5, 1, ["Python", "UUIDs"], [tmp_path])

    assert first == pieces(5, 1, ["Python", "UUIDs"], [tmp_path])
    assert first["UUIDs"] != pieces(5, 2, ["UUIDs"])["UUIDs"]
    assert len(first["Python"]) == 5
    assert all(set(piece) <= set("x = 1\n") for piece in first["Python"])


@pytest.mark.parametrize("kind", GENERATED)
def test_made_up_data_is_made_of_lines(kind: str) -> None:
    made = [GENERATED[kind](random.Random(seed)) for seed in range(20)]

    assert all(piece.count("\n") > 4 for piece in made)


def test_false_changes_are_counted_by_way_and_detector() -> None:
    through = ways(Guard(GuardSettings()))
    broken = {**through, "chat": lambda text: text.replace("7", "[CARD_NUMBER]", 1)}

    tally = measure(["no 7 is here\n", "write to joe@example.com"], broken)

    assert tally.false["chat"] == 1
    assert tally.false["question"] == 0
    assert tally.changed["question"] == 1
    assert tally.false_by == {("chat", "CARD_NUMBER"): 1}
    table = "\n".join(lines_of({"notes": tally}, list(broken)))
    assert "| notes | 2 | 0 (1) | 1 (1) | 0 (1) | 0 (1) | 0 (1) | **not held** |" in table


def test_it_runs_on_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Title\n\nWords and more words.\n")

    ran = CliRunner().invoke(main, ["--kind", "Markdown", "--folder", str(tmp_path), "--show", "1"])

    assert ran.exit_code == 0, ran.output
    assert "| Markdown | 1 | 0 (0) | 0 (0) | 0 (0) | 0 (0) | 0 (0) | held |" in ran.output
