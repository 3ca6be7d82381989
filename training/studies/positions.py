"""Position encodings on texts longer than in training.

Decoders of two blocks, 64 wide, learn characters of source code in blocks of 64, and then read 64, 128, 256 and 512
characters at once, with rotary embeddings (RoPE), ALiBi, sinusoids, learned vectors, or no positions at all, where only
the causal mask shows the order. Each takes 130 steps of 512 characters on the same batches. Learned vectors exist for
all 512 positions; those after the 64th keep their initial values. The loss is a mean over all characters of the
blocks, on held-out text. It falls if a model makes use of a longer context, and rises if the model cannot handle it.

The study does not cover longer training, after which positions matter more, or methods that extend RoPE afterwards
(position interpolation, YaRN).
"""

from __future__ import annotations

from training.model.config import Positions
from training.studies.fit import BLOCK, LONGEST_BLOCK, decoder, fit_text, heldout_loss, texts
from training.studies.study import Axis, Sample, Study, Trial

KINDS: dict[Positions, str] = {
    "rope": "RoPE",
    "alibi": "ALiBi",
    "sinusoid": "sinusoids",
    "learned": "learned",
    "none": "none",
}


def measure(trial: Trial) -> Sample:
    read = texts(trial)
    lines: dict[str, dict[float, float]] = {}
    for positions, name in KINDS.items():
        model = decoder(trial, read.vocab_size, positions=positions, context=LONGEST_BLOCK)
        fit_text(model, read.code, trial, steps=trial.pick(130, 2))
        lines[name] = {
            length: heldout_loss(model, read.code, block=length, tokens=trial.pick(8192, 1024))
            for length in (BLOCK, 128, 256, LONGEST_BLOCK)
        }
    table = {f"{name}, {length:g} characters": loss for name, line in lines.items() for length, loss in line.items()}
    return Sample(number=lines["RoPE"][256] - lines["ALiBi"][256], table=table, lines=lines)


STUDY = Study(
    claim="Trained on 64 characters and tested on 256, a model with RoPE predicts worse than one with ALiBi.",
    number="loss with RoPE minus loss with ALiBi, both at 256, nats per character",
    holds="above",
    bar=0.0,
    measure=measure,
    x=Axis("characters read at once", is_log=True),
    y=Axis("loss, nats per character"),
    seeds=3,
)
