"""Power, edits and marked parts: the parts of `training.studies.marks.detection` that make marked texts."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from serving.provenance import MarkedSpan, MarkKey, detect
from serving.provenance.detection.calibrate import windows_of
from serving.provenance.detection.drawn import drawn_from
from training.studies.marks.bigram import Answer, Bigram
from training.studies.marks.detection_study import GUMBEL, KINDS, Study, predicted_power, progress
from training.studies.sections import table_head

LENGTHS = (25, 50, 100, 200)


def power(study: Study, texts: int) -> None:
    """Found and predicted by kind of text and length: from the tokens' probabilities, and from the entropy alone."""
    study.lines += [
        f"### Power at p < 1e-3, one key, {texts} texts each: found / predicted from probabilities / from the entropy",
        "",
        *table_head("text", *(f"{length} tokens" for length in LENGTHS), "weighted, 100 tokens"),
    ]
    off = off_entropy = 0.0
    for kind, nats in study.kinds.items():
        model, cells, answers = Bigram(study.spoken, nats, seed=2), [], []
        for number in progress(range(texts), kind):
            key = study.keys[number]
            answers.append((key, model.answer(max(LENGTHS), key.seed)))
        said = -float(np.mean([answer.logprobs for _, answer in answers]))
        for length in LENGTHS:
            plain = [detect(answer.tokens[:length], [key], nats_per_token=said) for key, answer in answers]
            known = [_with_logprobs(answer, length, key) for key, answer in answers]
            share = float(np.mean([one.marked for one in plain]))
            predicted = float(np.mean([power for power, _ in known]))
            blind = float(np.mean([one.power for one in plain]))
            off, off_entropy = max(off, abs(share - predicted)), max(off_entropy, abs(share - blind))
            cells.append(f"{share:.2f} / {predicted:.2f} / {blind:.2f}")
        weighted = np.mean([_with_logprobs(answer, 100, key)[1] for key, answer in answers])
        study.lines.append(f"| {kind}, {said:.2f} nats | " + " | ".join(cells) + f" | {weighted:.2f} |")
    margin = 1.96 * 0.5 / math.sqrt(texts)
    study.lines += [
        "",
        f"Largest difference between found and predicted: **{100 * off:.0f} points** from probabilities "
        f"(bar 5, and {100 * margin:.0f} for chance: {study.bar(off <= 0.05 + margin, 'predicted power')}), "
        f"{100 * off_entropy:.0f} from the entropy alone.",
        "",
    ]


def _with_logprobs(answer: Answer, length: int, key: MarkKey) -> tuple[float, bool]:
    """The power predicted for the plain test, and whether the weighted test finds the mark."""
    tokens, logprobs = answer.tokens[:length], answer.logprobs[:length]
    return predicted_power(GUMBEL.name, tokens, drawn_from(logprobs)), detect(tokens, [key], logprobs=logprobs).marked


def edits(study: Study, texts: int, num_tokens: int = 200) -> None:
    """The same marked texts after what readers and forgers do to them."""
    model = Bigram(study.spoken, KINDS["prose"], seed=3)
    made = [(key, model.answer(num_tokens, key.seed).tokens) for key in study.keys[:texts]]
    study.lines += [
        f"### Edits: {texts} marked texts of {num_tokens} tokens at {KINDS['prose']} nats, found at p < 1e-3",
        "",
        *table_head("edit", "found", "median p"),
    ]
    for name, edit in _edits().items():
        p_values = []
        for number, (key, tokens) in enumerate(progress(made, name)):
            text = edit(study.tokenizer.decode(tokens), random.Random(number))
            p_values.append(study.detector.detect_text(text, [key]).p_value)
        study.lines.append(f"| {name} | {np.mean(np.array(p_values) < 1e-3):.0%} | {np.median(p_values):.1g} |")
    study.lines.append("")


def _edits() -> dict[str, Callable[[str, random.Random], str]]:
    def swapped(share: float) -> Callable[[str, random.Random], str]:
        def edit(text: str, chance: random.Random) -> str:
            words = text.split(" ")
            others = [word for word in words if word.isalpha()]
            return " ".join(chance.choice(others) if chance.random() < share else word for word in words)

        return edit

    def without_words(text: str, chance: random.Random) -> str:
        return " ".join(word for word in text.split(" ") if chance.random() > 0.1)

    def turned(share: float) -> Callable[[str, random.Random], str]:
        """Stretches of three to eight words change places with their neighbours, and some words are others."""

        def edit(text: str, chance: random.Random) -> str:
            words, parts = swapped(share)(text, chance).split(" "), []
            while words:
                length = chance.randrange(3, 9)
                parts.append(words[:length])
                words = words[length:]
            order = [place ^ 1 for place in range(len(parts) + len(parts) % 2)]
            return " ".join(word for place in order if place < len(parts) for word in parts[place])

        return edit

    return {
        "none: tokens again from text": lambda text, _: text,
        "first half cut off": lambda text, _: text[len(text) // 2 :],
        "all but the middle quarter cut off": lambda text, _: text[len(text) * 3 // 8 : len(text) * 5 // 8],
        "5% of the words replaced": swapped(0.05),
        "10% of the words replaced": swapped(0.10),
        "20% of the words replaced": swapped(0.20),
        "30% of the words replaced": swapped(0.30),
        "10% of the words left out": without_words,
        "word order turned round": turned(0.0),
        "word order turned round, 20% of the words replaced": turned(0.20),
        "every sentence begun with another word": lambda text, _: text.replace(". ", ". Now "),
        "all in small letters": lambda text, _: text.lower(),
        "all in capitals": lambda text, _: text.upper(),
        "white space made single": lambda text, _: " ".join(text.split()),
        "a line break for every tenth space": _broken,
    }


def _broken(text: str, _: random.Random) -> str:
    """As mail programs leave it: the tokens at the ends of lines are others."""
    words = text.split(" ")
    return "\n".join(" ".join(words[place : place + 10]) for place in range(0, len(words), 10))


def spans(study: Study, texts: int) -> None:
    """Marked parts of human texts: found, whose, and how well their ends are met; and parts where there are none."""
    human = windows_of(study.human, 1000)
    keys = study.keys[:100]
    study.lines += [
        f"### Marked parts in 1,000 tokens, {len(keys)} keys tried, {texts} texts each",
        "",
        *table_head(
            *("marked part", "found, right key", "with probabilities", "overlap with the true part (median)"),
            "texts with parts by a wrong key",
        ),
    ]
    for kind, nats in study.kinds.items():
        model = Bigram(study.spoken, nats, seed=4)
        for length in (0, 60, 100, 200):
            detected, known, strays, overlaps = 0, 0, 0, []
            for number in progress(range(texts), f"{kind}, part of {length}"):
                key, around = keys[number % len(keys)], list(human[number % len(human)])
                start = random.Random(number).randrange(1000 - length)
                part = model.answer(length, key.seed)
                around[start : start + length] = part.tokens
                logprobs = _logprobs(model, around)
                logprobs[start : start + length] = part.logprobs
                plain, weighted = (detect(around, keys, spans=True, logprobs=one).spans for one in (None, logprobs))
                mine = [span for span in plain if span.key_id == key.id and length]
                strays += any(span.key_id != key.id or not length for span in plain + weighted)
                detected += bool(mine)
                known += any(span.key_id == key.id for span in weighted) and length > 0
                overlaps += [_overlap(start, start + length, span) for span in mine[:1]]
            overlap = f"{np.median(overlaps):.2f}" if overlaps else "–"
            study.lines.append(
                f"| {kind}, {length} tokens | {detected / texts:.2f} | {known / texts:.2f} | {overlap} | {strays} |"
            )
    study.lines.append("")


def _logprobs(model: Bigram, tokens: list[int]) -> list[float]:
    """What the small model thinks of a text that it did not write."""
    logprobs = [math.log(1e-3)]
    for last, token in pairwise(tokens):
        candidates, logs = model.candidates(last)
        logprobs.append(max(math.log(1e-3), float(logs[candidates == token].max(initial=-math.inf))))
    return logprobs


def _overlap(start: int, end: int, span: MarkedSpan) -> float:
    """What two stretches have in common, as a share of what they cover together."""
    first, last = span.first_token, span.first_token + span.num_tokens
    return max(0, min(end, last) - max(start, first)) / (max(end, last) - min(start, first))
