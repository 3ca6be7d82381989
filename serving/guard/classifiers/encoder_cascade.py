"""A cascade: texts that the linear model of harmful requests is unsure of are read by a sentence encoder too.

The encoder reads a text once. Its states are averaged over the whole, over each sentence and over each two in a row,
and a small network says of each of these views whether it asks for something harmful; the largest counts. Its margin
is added to the linear model's where that one's margin lies near its threshold; elsewhere the encoder does not run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from serving.guard.classifiers.encoder import Encoder, EncoderError, digest_of
from serving.guard.classifiers.head import Floats, Head
from serving.guard.classifiers.ngrams import normal
from serving.guard.classifiers.windows import chunks, sentences

Reader = Callable[[str], float]

SKIP = 1
"""Layers at the end that are not run: the last serves likeness of sentences, the one before tells more of the rest."""
VIEWED_CHARS = 800
"""Characters that are looked at together: what the encoder reads at once."""
SENTENCE_CHARS = 300
LOW, HIGH = -2.0, 6.0
"""The band of the linear model's margins: below are nine of ten harmless texts, above only what is flagged anyway."""


class EncoderCascade:
    """An encoder with the head that was trained on it."""

    def __init__(self, encoder: Encoder, head: Head) -> None:
        self.head = head
        self._encoder = encoder

    @classmethod
    def open(cls, folder: Path, head: Head | None) -> EncoderCascade:
        """
        Raises:
            EncoderError: the folder holds no encoder, or not the one that the weights were trained with.
        """
        if head is None:
            raise EncoderError("guard.classifiers.encoder: these weights have no second look; train them with one.")
        encoder = Encoder(folder, SKIP)
        if (digest := digest_of(folder)) != head.digest:
            raise EncoderError(
                f"{folder}: not the encoder that the weights were trained with "
                f"(digest {digest[:12]}…, theirs is {head.digest[:12]}…)."
            )
        return cls(encoder, head)

    def margin(self, text: str, first: Reader) -> float:
        """The margin of both, where `first` gives the linear model's of a text."""
        margin = first(text)
        if not LOW <= margin <= HIGH:
            return margin
        pieces = chunks(text, VIEWED_CHARS)
        # Of a long text the piece that looks worst.
        piece = max(pieces, key=first) if len(pieces) > 1 else text
        return margin + float(self.head.margins(views(self._encoder, [piece])[0]).max())


def views(encoder: Encoder, texts: Sequence[str]) -> list[Floats]:
    """For each text averages of the encoder's states: over the whole, each sentence, and each two of them in a row."""
    shown = [normal(text) or " " for text in texts]
    vectors: list[Floats] = []
    for text, (states, offsets) in zip(shown, encoder.read_all(shown), strict=True):
        rows = [states.mean(axis=0)]
        spans = _spans(text, offsets)
        if len(spans) > 1:
            rows += [states[span].mean(axis=0) for span in spans]
            rows += [states[[*one, *other]].mean(axis=0) for one, other in pairwise(spans)]
        vectors.append(np.stack(rows))
    return vectors


def _spans(text: str, offsets: list[tuple[int, int]]) -> list[list[int]]:
    """The tokens of each sentence."""
    ends: list[int] = []
    for sentence in sentences(text, SENTENCE_CHARS):
        # Sentences keep their letters but not the space between them.
        begin = text.find(sentence, ends[-1] if ends else 0)
        ends.append((begin if begin >= 0 else ends[-1] if ends else 0) + len(sentence))
    spans: list[list[int]] = [[] for _ in ends]
    for token, (begin, end) in enumerate(offsets):
        if end > begin:
            spans[min(int(np.searchsorted(ends, begin, side="right")), len(ends) - 1)].append(token)
    return [span for span in spans if span]
