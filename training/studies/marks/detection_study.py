"""What the parts of the study of detection share: keys, texts, the report."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import click
from tokenizers import Tokenizer

from serving.provenance import Detector, Keyring, MarkKey
from serving.provenance.detection import weighted
from serving.provenance.detection.drawn import Drawn
from serving.provenance.detection.null import NULLS
from serving.provenance.detection.power import critical_score, marked_score, power
from serving.provenance.schemes import SCHEMES

GUMBEL = SCHEMES["gumbel"]
WINDOW = 200
LEVEL = 1e-3
KINDS = {"sums, code": 0.15, "cautious prose": 0.5, "prose": 1.0, "free prose": 2.0}

Item = TypeVar("Item")


@dataclass
class Study:
    """The report's lines, the bars that were missed, and what every part needs."""

    detector: Detector
    tokenizer: Tokenizer
    human: list[int]
    spoken: list[int]
    """What the small model learns from: the sentences of the human text, without headings and gaps."""
    traffic: tuple[list[list[int]], list[list[int]]]
    """Texts of one kind: to calibrate with, and to ask about."""
    keys: list[MarkKey]
    kinds: dict[str, float]
    """What marked texts to make, and their nats per token."""
    lines: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def bar(self, held: bool, name: str) -> str:
        if not held:
            self.missed.append(name)
        return "held" if held else "MISSED"


def log_p(scheme: str, seed: int, token_ids: Sequence[int]) -> float:
    """Natural log of the p-value under one seed."""
    reader = SCHEMES[scheme]
    pairs = reader.pairs(token_ids)
    if not len(pairs):
        return 0.0
    return reader.log_p_value(float(reader.token_scores([seed], pairs).sum()), len(pairs))


def predicted_power(scheme: str, token_ids: Sequence[int], drawn: Drawn) -> float:
    """The chance that a mark of this text is found at `LEVEL` by the plain test, from what its tokens came from."""
    reader, null = SCHEMES[scheme], NULLS[scheme]
    pairs = reader.pairs(token_ids)
    total = marked_score(reader, null, drawn, pairs, None)
    critical = critical_score(lambda score: reader.log_p_value(score, len(pairs)), LEVEL, null.mean * len(pairs))
    return power(total, critical)


def weighted_found_and_power(seed: int, token_ids: Sequence[int], drawn: Drawn) -> tuple[bool, float]:
    """Whether a Gumbel mark is found by the test that weighs tokens by what they were drawn from, and its power."""
    null, pairs = NULLS[GUMBEL.name], GUMBEL.pairs(token_ids)
    weights = weighted.weights_of(null.mean + GUMBEL.marked_scores(drawn.probabilities[pairs.positions]).mean)
    score = float(GUMBEL.token_scores([seed], pairs)[0] @ weights)
    critical = critical_score(lambda total: weighted.log_p_value(total, weights), LEVEL, float(weights.sum()))
    return score >= critical, power(marked_score(GUMBEL, null, drawn, pairs, weights), critical)


def keys_of_many_tenants(number: int) -> list[MarkKey]:
    """As a keyring issues them, without ten thousand writes of its file."""
    with tempfile.TemporaryDirectory() as folder:
        root = Keyring.open(Path(folder) / "keyring.json", create=True).mark_key("study").root
    return [MarkKey(root.key_id(f"tenant-{index}"), f"tenant-{index}", root) for index in range(number)]


def sentences(text: str) -> str:
    """Without headings, empty lines and words that are left out: a model of word pairs would go round in those."""
    lines = [line.strip() for line in text.splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("=")).replace(" <unk>", "")


def progress(items: Sequence[Item], label: str) -> Iterator[Item]:
    """The items, and a bar."""
    with click.progressbar(items, label=label, file=sys.stderr) as shown:
        yield from shown
