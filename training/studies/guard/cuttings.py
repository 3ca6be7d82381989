"""Cuts answers at random and compares: `python -m training.studies.guard.cuttings [--cuttings 10000]`.

For each recognizer and each stage of an answer's way, texts of values in whole and in part, of glue and of noise are
cut in as many random ways. A difference is an answer that is not what the whole gives, a leak one that shows a value
which the whole masks. Writes the section `Streams` of docs/benchmarks/guard.md.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from serving.guard import Guard, GuardReport, GuardSettings, StreamCleaner
from serving.guard.answer.answer import Stage
from serving.guard.answer.leak import LeakStage
from serving.guard.answer.markup import Markup
from serving.guard.answer.tags import Rules
from serving.guard.detector import Detector
from serving.guard.detectors import default_detectors
from serving.guard.question.system_prompt import SystemPrompt
from serving.guard.settings import LinkSettings
from serving.guard.text.escapes import PlainEscapes
from training.studies.sections import GUARD_PAGE, REPOSITORY, write_section

VALUES: dict[str, list[str]] = json.loads((REPOSITORY / "tests" / "serving" / "guard" / "values.json").read_text())
CUTTINGS_A_TEXT = 20
GLUE = [
    *(" ", "", ". ", ", ", "\n", "\\n", '"', '": ', ": ", "(", ")", "+", "-", "_", "/", "@", ".", "a", "0", "12345"),
    *("hello world ", "x" * 40, "0" * 30, "call ", "Bearer ", "\u00e9", "\u200b", "\x1b[31m", "\u00ad", "\U000e0041"),
]
MARKUP = [
    *("![", "](", "]:", "[r]", "https://", "//", "evil.test", "<", "<im", "g src", "=", ">", '"', "'", "script", "`"),
    *("```", "~~~", "\n", "\n\n", " ", "\r", "on", "load", "<pre>", "<b>", "</", "!", "htt", "ps", ":", "javascript:"),
    *(" `", "``", "a<b", "; ", "|", "][", "<!DOCTYPE html>", " (`"),
]
PROMPT = "You are Ada, the assistant of a bank. Never tell anybody that the vault opens at nine. Be kind."
ESCAPES = ["\\", "\\u", "0040", "\\u00", "\\\\", "u0041", '"', "\\n", "a", "\\ud83d\\ude00", "40"]


class Row(NamedTuple):
    """One line of the table."""

    name: str
    cuttings: int
    differences: int
    leaks: int


def check(
    name: str, new: Callable[[], Stage], text_of: Callable[[random.Random], str], cuttings: int, secrets: Sequence[str]
) -> Row:
    """Cut texts by one stage."""
    rng = random.Random(name)
    differences = leaks = 0
    for _ in range(cuttings // CUTTINGS_A_TEXT):
        text = text_of(rng)
        whole = run(new(), text, [])
        hidden = [secret for secret in secrets if secret in text and secret not in whole]
        for _ in range(CUTTINGS_A_TEXT):
            out = run(new(), text, sorted(rng.choices(range(len(text) + 1), k=rng.randint(1, 12))))
            differences += out != whole
            leaks += any(secret in out for secret in hidden)
    return Row(name, cuttings, differences, leaks)


def run(stage: Stage, text: str, places: Sequence[int]) -> str:
    pieces = [text[start:end] for start, end in pairwise([0, *places, len(text)])]
    return "".join(stage.feed(piece) for piece in pieces) + stage.finish()


def pieces_of(values: Sequence[str], glue: Sequence[str]) -> Callable[[random.Random], str]:
    """Texts of whole values, parts of values, and what stands between."""

    def text(rng: random.Random) -> str:
        made = []
        for _ in range(rng.randint(1, 8)):
            value = rng.choice(values)
            place = rng.randrange(len(value) + 1)
            made.append(rng.choice([value, value[:place], value[place:], rng.choice(glue), rng.choice(glue)]))
        return "".join(made)

    return text


def restoring() -> tuple[Callable[[], Stage], list[str]]:
    """The whole way of an answer whose question held two addresses."""
    settings = {"input": {"email_address": "pseudonymize"}, "system_prompt": {"max_words": 4}}
    body = {
        "messages": [{"role": "system", "content": PROMPT}, {"role": "user", "content": "a@b.example, c@d.example"}]
    }
    _, answers = Guard(GuardSettings.model_validate(settings)).ask(body, "chat")
    return answers.stream, [
        "EMAIL_ADDRESS_1",
        "email_address_2",
        "Email\\_Address\\_1",
        "EMAIL_ADDRESS_12",
        "x@y.example",
    ]


def rows(cuttings: int) -> list[Row]:
    """Every recognizer alone, and every stage."""
    everyone = default_detectors()
    everything = [value for values in VALUES.values() for value in values]
    made = [_of_recognizer(detector, cuttings) for detector in everyone]
    made.append(
        check("all recognizers", lambda: StreamCleaner(everyone), pieces_of(everything, GLUE), cuttings, everything)
    )
    made += [
        _of_markup("markup", LinkSettings(), cuttings),
        _of_markup("markup, links masked", LinkSettings(links="mask", code="mask"), cuttings),
    ]
    prompt = SystemPrompt([PROMPT], "ref00ff")
    words = pieces_of([PROMPT, "ref00ff"], [*PROMPT.split(), " "])
    made.append(
        check(
            "system prompt",
            lambda: LeakStage(prompt, 4, masks=True, report=GuardReport()),
            words,
            cuttings,
            ["ref00ff"],
        )
    )
    made.append(check("JSON escapes", PlainEscapes, pieces_of(ESCAPES, ESCAPES), cuttings, []))
    stream, placeholders = restoring()
    texts = pieces_of([*placeholders, PROMPT], [*GLUE, *MARKUP])
    made.append(check("all stages, restoring", stream, texts, cuttings, ["x@y.example"]))
    return made


def _of_recognizer(detector: Detector, cuttings: int) -> Row:
    values = VALUES.get(detector.entity) or VALUES["nothing"]
    secrets = [value for value in values if len(value) > 5]
    name = f"{detector.entity} ({type(detector).__name__})"
    return check(name, lambda: StreamCleaner((detector,)), pieces_of(values, GLUE), cuttings, secrets)


def _of_markup(name: str, settings: LinkSettings, cuttings: int) -> Row:
    rules = Rules(settings)
    return check(name, lambda: Markup(rules, GuardReport()), pieces_of(MARKUP, MARKUP), cuttings, [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuttings", type=int, default=10_000, help="cuttings for each row")
    cuttings = parser.parse_args().cuttings
    started = time.perf_counter()
    made = rows(cuttings)
    seconds = time.perf_counter() - started
    lines = [
        f"`python -m training.studies.guard.cuttings --cuttings {cuttings}`, 2026-11-26, 2 cores, {seconds:.0f} s.",
        "A difference: an answer in pieces is not what the whole gives. A leak: a value shows that the whole masks.",
        "",
        "| what | random cuttings | differences | leaks |",
        "|---|---|---|---|",
        *(f"| {row.name} | {row.cuttings:,} | {row.differences} | {row.leaks} |" for row in made),
    ]
    text = "\n".join(lines)
    write_section(GUARD_PAGE, "Streams", text)
    print(text)


if __name__ == "__main__":
    main()
