"""What the guard changes in ordinary work.

    python -m training.studies.guard.ordinary_work [--pieces 1000] [--show 20]

Pieces of what every machine holds (the interpreter's library, installed packages, logs, generated data) go through the
guard by its default settings: as a question, as an answer in a chat and in a completion, as JSON that was asked for,
and as the arguments of a tool call. A change that no rule calls right is false. Writes the section `Ordinary work` of
docs/benchmarks/guard.md.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from serving.guard import Guard, GuardSettings
from serving.guard.question.served_tokens import control_tokens_of
from training.studies.guard.ordinary_data import GENERATED
from training.studies.guard.ordinary_right import Change, changes, is_right, named
from training.studies.guard.ordinary_texts import FILES, pieces
from training.studies.guard.peers.question import Peer
from training.studies.sections import GUARD_PAGE, NOTES, machine, table_head, write_section

SECTION = "Ordinary work"
BAR = 0.001
_MODEL_TOKENS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
"""Of the default model and many others."""
_SCHEMA = {"type": "json_schema", "json_schema": {"name": "text", "schema": {"type": "object"}}}

_PRESIDIO = {
    "EMAIL_ADDRESS": "EMAIL_ADDRESS",
    "PHONE_NUMBER": "PHONE_NUMBER",
    "CREDIT_CARD": "CARD_NUMBER",
    "IBAN_CODE": "IBAN",
    "CRYPTO": "API_KEY",
    "US_SSN": "NATIONAL_ID",
    "US_ITIN": "NATIONAL_ID",
    "UK_NHS": "NATIONAL_ID",
    "US_BANK_NUMBER": "ACCOUNT_NUMBER",
    "US_DRIVER_LICENSE": "DOCUMENT_NUMBER",
    "US_PASSPORT": "DOCUMENT_NUMBER",
    "MEDICAL_LICENSE": "MEDICAL_NUMBER",
}
"""Its entities of the kinds that we mask by default, and ours."""
_THRESHOLD = 0.5
"""Score from which on its findings count."""

Way = Callable[[str], str]


def ways(guard: Guard) -> dict[str, Way]:
    """How a text can go through the gateway: each gives what the other side reads."""

    def question(text: str) -> str:
        body: dict[str, Any] = {"messages": [{"role": "user", "content": text}]}
        guard.clean_request(body, "chat")
        return str(body["messages"][0]["content"])

    asked: list[dict[str, Any]] = [{"role": "user", "content": "Go on."}]
    chat = guard.ask({"messages": asked}, "chat")[1]
    completion = guard.ask({"prompt": "Go on."}, "completions")[1]
    structured = guard.ask({"messages": asked, "response_format": _SCHEMA}, "chat")[1]
    return {
        "question": question,
        "chat": lambda text: chat.clean_text(text)[0],
        "completion": lambda text: completion.clean_text(text)[0],
        "JSON": lambda text: _in_json(structured.clean_text(json.dumps({"text": text}))[0]),
        "tool arguments": lambda text: _in_json(chat.clean_text(json.dumps({"text": text}), json=True)[0]),
    }


def _in_json(text: str) -> str:
    """The text in JSON; what is no JSON any more counts as changed."""
    try:
        return str(json.loads(text)["text"])
    except (ValueError, KeyError):
        return f"no JSON any more: {text}"


@dataclass
class Tally:
    """What became of the pieces of one kind."""

    pieces: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    """Pieces, by way."""
    false: Counter[str] = field(default_factory=Counter)
    """Pieces with a false change, by way."""
    false_by: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The same by way and detector."""
    shown: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    """The ways of each false change, by detector and what stood around it."""


def measure(texts: Sequence[str], through: dict[str, Way]) -> Tally:
    """Send each piece every way."""
    tally = Tally(pieces=len(texts))
    for text in texts:
        for way, clean in through.items():
            after = clean(text)
            if after == text:
                continue
            tally.changed[way] += 1
            mark = "control_token" if way == "question" else "markup"
            wrong: dict[str, str] = {}
            for detector, right, shown in named(changes(text, after, mark=mark), text, after):
                if not right:
                    wrong.setdefault(detector, shown)
            tally.false[way] += bool(wrong)
            for detector, shown in wrong.items():
                tally.false_by[way, detector] += 1
                tally.shown[detector, shown].append(way)
    return tally


def measure_presidio(texts: dict[str, list[str]], python: str, model: str) -> dict[str, int]:
    """Pieces of each kind in which presidio finds what no rule calls right."""
    peer = Peer(python, "presidio")
    false = {}
    for kind, pieces_of_kind in texts.items():
        answered = peer.ask("named", pieces_of_kind, model=model, entities=list(_PRESIDIO), threshold=_THRESHOLD)
        false[kind] = sum(
            any(not is_right(Change(_PRESIDIO[name], start, end, start), text, "") for name, start, end in found)
            for text, found in zip(pieces_of_kind, answered.texts, strict=True)
        )
    peer.close()
    return false


def lines_of(tallies: dict[str, Tally], names: Sequence[str], presidio: dict[str, int] | None = None) -> list[str]:
    """The section's tables: false changes by kind and way, then by detector."""
    lines = table_head("pieces of", "pieces", *names, "bar", *(["presidio"] if presidio else []))
    for kind, tally in tallies.items():
        cells = [f"{tally.false[way]} ({tally.changed[way]})" for way in names]
        most = max(tally.false[way] for way in names) / tally.pieces
        cells += ["held" if most <= BAR else "**not held**", *([str(presidio[kind])] if presidio else [])]
        lines.append(f"| {kind} | {tally.pieces} | {' | '.join(cells)} |")
    whole = sum(tally.pieces for tally in tallies.values())
    sums = [
        (sum(t.false[way] for t in tallies.values()), sum(t.changed[way] for t in tallies.values())) for way in names
    ]
    shares = [f"{100 * false / whole:.2f} % ({100 * changed / whole:.2f} %)" for false, changed in sums]
    shares += ["", *([f"{100 * sum(presidio.values()) / whole:.2f} %"] if presidio else [])]
    lines.append(f"| all | {whole} | {' | '.join(shares)} |")
    by: Counter[tuple[str, str]] = Counter()
    for tally in tallies.values():
        by.update(tally.false_by)
    lines += ["", *table_head("false changes by", *names)]
    for detector in sorted({detector for _, detector in by}):
        lines.append(f"| {detector} | {' | '.join(str(by[way, detector]) for way in names)} |")
    return lines


@click.command()
@click.option("--pieces", "count", default=1000, show_default=True, help="Most pieces of each kind.")
@click.option("--seed", default=1, show_default=True, help="Another seed cuts other pieces.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice([*FILES, *GENERATED]), help="Only it.")
@click.option("--folder", "folders", multiple=True, type=click.Path(path_type=Path, exists=True), help="Its files.")
@click.option("--model", type=click.Path(path_type=Path, exists=True), help="Served model, whose tokens count.")
@click.option("--presidio", help="Python of an environment with presidio-analyzer.")
@click.option(
    "--language-model", default="en_core_web_sm", show_default=True, help="spaCy model, its folder, or blank."
)
@click.option("--show", default=0, show_default=True, help="False changes to print for each kind.")
@click.option("--write/--no-write", default=False, help="Write the section of the page.")
def main(
    count: int,
    seed: int,
    kinds: Sequence[str],
    folders: Sequence[Path],
    model: Path | None,
    presidio: str | None,
    language_model: str,
    show: int,
    write: bool,
) -> None:
    """Measure, print, and write the section when asked to."""
    guard = Guard(GuardSettings(), control_tokens_of(model) if model is not None else _MODEL_TOKENS)
    through = ways(guard)
    tallies = {}
    made_of = pieces(count, seed, kinds, folders)
    for kind, texts in made_of.items():
        tallies[kind] = tally = measure(texts, through)
        for number, ((detector, shown), found) in enumerate(tally.shown.items()):
            if number < show:
                click.echo(f"{kind}: {detector} in {', '.join(found)}: {shown!r}")
    beside = measure_presidio(made_of, presidio, language_model) if presidio else None
    about = machine()
    lines = [
        f"`python -m training.studies.guard.ordinary_work --pieces {count} --seed {seed}`, {about['date']}.",
        "Pieces with a change that no rule calls right, and in brackets all that were changed; each as a question, as "
        f"an answer in a chat and in a completion, as JSON and as a tool call's arguments. Bar: {BAR:.1%} of a kind.",
        "",
        *lines_of(tallies, list(through), beside),
    ]
    if beside:
        lines.insert(
            2, f"presidio-analyzer, for entities of the same kinds at a score of {_THRESHOLD}, by the same rules."
        )
    made = "\n".join(lines)
    click.echo(made)
    if write:
        write_section(GUARD_PAGE, SECTION, f"{made}\n\n{NOTES}")


if __name__ == "__main__":
    main()
