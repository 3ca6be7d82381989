"""Cleaned answers, shown by a renderer of others: nothing is fetched or run."""

from __future__ import annotations

import random

import pytest

from serving.guard import Guard, GuardReport, GuardSettings
from serving.guard.answer.markup import Markup
from serving.guard.answer.tags import Rules
from serving.guard.settings import LinkSettings
from tests.support.cuttings import run
from training.studies.guard.rendering import HARMLESS, exfiltrating, fetched

GUARD = Guard(GuardSettings())
RULES = Rules(LinkSettings())
AT = "https://collect.attacker.example/p"
ACTIVE = (
    f"<img src='{AT}'>",
    f"![x]({AT})",
    "![r]",
    "![a][r]",
    f"[r]: {AT}",
    "<script>x()</script>",
    "<b onclick='x()'>",
    f"<iframe src='{AT}'></iframe>",
    "[z](javascript:x())",
    "onclick=x() ",
    f"src={AT} ",
)
AROUND = (
    *(
        "<div",
        "<div>",
        "</div>",
        "<p ",
        'title="',
        "title='",
        '"',
        "'",
        ">",
        "<",
        "</",
        "/>",
        "<!--",
        "-->",
        "<?",
        "?>",
    ),
    *("<!A", "<![CDATA[", "]]>", "<pre>", "</pre>", "<textarea>", "<x-y ", "<svg ", "<b ", "a=b ", "a<b", "&lt;", "\\"),
    *(
        "\n",
        "\n\n",
        "\n   ",
        "\n    ",
        " ",
        "\t",
        "\r",
        "\r\n",
        "```",
        "~~~",
        "`",
        "``",
        "html\n",
        "- ",
        "1. ",
        "> ",
        "\n> ",
        "\n>",
        "|",
    ),
    *("](", "[", "]", "(", ")", "[r]:\n", "* * *\n", "# ", "text ", "x" * 70, "y" * 600),
)


@pytest.mark.parametrize("answer", [answer for _, answer in exfiltrating()])
def test_no_attack_fetches_or_runs_anything(answer: str) -> None:
    cleaned, _ = GUARD.clean_text(answer)

    assert fetched(cleaned) == []
    assert cleaned != answer


@pytest.mark.parametrize("answer", HARMLESS)
def test_what_fetches_nothing_stays(answer: str) -> None:
    assert fetched(answer) == []
    assert run(Markup(RULES, GuardReport()), answer, []) == answer


def test_nothing_is_fetched_or_run_wherever_an_attack_stands() -> None:
    rng = random.Random(5)
    for _ in range(500):
        pieces = [rng.choice(ACTIVE if rng.random() < 0.3 else AROUND) for _ in range(rng.randint(2, 12))]
        answer = "".join(pieces)
        cleaned = run(Markup(RULES, GuardReport()), answer, [])
        places = sorted(rng.choices(range(len(answer) + 1), k=5))

        assert run(Markup(RULES, GuardReport()), answer, places) == cleaned, (answer, places)
        try:
            found = fetched(cleaned)
        except IndexError:  # markdown-it-py on some blocks of HTML in lists
            continue
        assert found == [], answer
