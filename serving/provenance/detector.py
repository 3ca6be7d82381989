"""Reads text with a model's tokenizer, and tells whether it is marked and by whom."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from serving.provenance.adjustment import Adjustment, Subject
from serving.provenance.detection import (
    ASSUMED_NATS,
    DEFAULT_THRESHOLD,
    PLAIN,
    Detection,
    MarkedSpan,
    Sampling,
    detect,
)
from serving.provenance.mark_key import MarkKey
from serving.provenance.schemes import DEFAULT_SCHEME


class Detector:
    """A detector for the answers of models with this tokenizer."""

    def __init__(self, tokenizer_folder: Path, threshold: float = DEFAULT_THRESHOLD) -> None:
        """Read `tokenizer.json` from a checkpoint's folder. Raises ValueError where there is none that can be read."""
        file = tokenizer_folder / "tokenizer.json"
        if not file.is_file():
            raise ValueError(f"{tokenizer_folder} holds no tokenizer.json: give the folder of a checkpoint")
        try:
            content = file.read_bytes()
            self._tokenizer = Tokenizer.from_str(content.decode())
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"{file} cannot be read: {error}") from None
        self.threshold = threshold
        self.digest = hashlib.sha256(content).hexdigest()
        """Of the tokenizer's file: what adjustments are looked up by."""

    def token_ids(self, text: str) -> list[int]:
        """The tokens a model would have had to produce for the text: no beginning or end marks are added."""
        ids: list[int] = self._encode(text).ids
        return ids

    def detect_text(
        self,
        text: str,
        keys: Sequence[MarkKey],
        *,
        threshold: float | None = None,
        schemes: Sequence[str] = (DEFAULT_SCHEME,),
        spans: bool = False,
        logprobs: Sequence[float | None] | None = None,
        top_logprobs: Sequence[Sequence[float] | None] | None = None,
        sampling: Sampling = PLAIN,
        nats_per_token: float = ASSUMED_NATS,
        adjustments: Mapping[Subject, Adjustment] | None = None,
    ) -> Detection:
        """As `detect`, from text; a text cut from the middle of an answer loses its first four tokens as evidence.

        Raises ValueError where `logprobs` or `top_logprobs` are not one for each of the text's tokens.
        """
        encoding = self._encode(text)
        if logprobs is not None and len(logprobs) != len(encoding.ids):
            raise ValueError(f"the text has {len(encoding.ids)} tokens and {len(logprobs)} log-probabilities")
        detection = detect(
            encoding.ids,
            keys,
            self.threshold if threshold is None else threshold,
            schemes=schemes,
            spans=spans,
            logprobs=logprobs,
            top_logprobs=top_logprobs,
            sampling=sampling,
            nats_per_token=nats_per_token,
            adjustments=adjustments,
            tokenizer=self.digest,
        )
        return replace(detection, spans=[_in_characters(span, encoding) for span in detection.spans])

    def _encode(self, text: str) -> Encoding:
        return self._tokenizer.encode(text, add_special_tokens=False)


def _in_characters(span: MarkedSpan, encoding: Encoding) -> MarkedSpan:
    last = span.first_token + span.num_tokens - 1
    return replace(span, start=encoding.offsets[span.first_token][0], end=encoding.offsets[last][1])
