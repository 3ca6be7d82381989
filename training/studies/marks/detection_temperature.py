"""How many tokens it takes: found by kind of text, temperature and length, at three levels."""

from __future__ import annotations

import numpy as np
from scipy.stats import gamma

from serving.provenance import MarkKey
from training.studies.marks.bigram import Bigram
from training.studies.marks.detection_human import LEVELS
from training.studies.marks.detection_study import GUMBEL, Study, progress
from training.studies.sections import table_head

LENGTHS = (25, 50, 100, 200, 400)
TEMPERATURES = (0.5, 0.7, 1.0, 1.3)


def temperature(study: Study, texts: int) -> None:
    """A kind of text is what a small model says with a stated entropy at temperature 1; other rows are its too."""
    study.lines += [
        f"### Found among {texts} marked texts at p < {', '.join(f'{level:g}' for level in LEVELS)}; one key",
        "",
        *table_head("text", "temperature", "nats a token", *(f"{length} tokens" for length in LENGTHS)),
    ]
    for kind, nats in study.kinds.items():
        model = Bigram(study.spoken, nats, seed=5)
        for warmth in TEMPERATURES:
            counts = np.zeros((len(LENGTHS), len(LEVELS)))
            said = 0.0
            for key in progress(study.keys[:texts], f"{kind}, {warmth:g}"):
                answer = model.answer(max(LENGTHS), key.seed, warmth)
                counts += [_found(answer.tokens[:length], key) for length in LENGTHS]
                said -= float(np.mean(answer.logprobs)) / texts
            cells = [" ".join(f"{share:.2f}" for share in row) for row in counts / texts]
            study.lines.append(f"| {kind} | {warmth:g} | {said:.2f} | {' | '.join(cells)} |")
    study.lines.append("")


def _found(tokens: list[int], key: MarkKey) -> list[bool]:
    """At each level."""
    pairs = GUMBEL.pairs(tokens)
    score = float(GUMBEL.token_scores([key.seed], pairs).sum())
    return [score >= float(gamma.isf(level, len(pairs))) for level in LEVELS]
