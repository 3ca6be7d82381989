"""`signet detect`: whether texts carry a mark, and whose."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serving.provenance.commands.common import (
    LoadSettings,
    keys_to_try,
    open_detector,
    open_keyring,
    read_text,
    scoring_options,
)
from serving.provenance.detection import PLAIN, Detection, Sampling

if TYPE_CHECKING:
    from serving.provenance.commands.engine import EngineLogprobs
    from serving.provenance.detector import Detector

KEYS_SHOWN = 5


@click.command()
@scoring_options
@click.option(
    "--threshold",
    default=1e-3,
    show_default=True,
    type=click.FloatRange(0, 0.5, min_open=True),
    help="Corrected p-value below which a text is called marked.",
)
@click.option("--spans/--no-spans", default=True, show_default=True, help="Look for marked parts of the text.")
@click.option(
    "--nats-per-token",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 10, min_open=True),
    help="Entropy of such text, to tell beforehand whether a mark would be found.",
)
@click.option(
    "--engine-url", help="An engine of the model: weighs each token by the probability that the model gives it."
)
@click.option(
    "--question",
    type=click.Path(path_type=Path, allow_dash=True),
    help="File with what the user asked: what it settles in the answers carries no mark. With --engine-url.",
)
@click.option(
    "--temperature",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 10),
    help="Of the answers: with it, and --top-k and --top-p, --engine-url tells what they could show.",
)
@click.option("--top-k", default=0, type=click.IntRange(0), show_default=True, help="Of the answers; 0: off.")
@click.option(
    "--top-p", default=1.0, show_default=True, type=click.FloatRange(0, 1, min_open=True), help="Of the answers."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an object, of several files a list.")
@click.pass_obj
def detect(
    load_settings: LoadSettings,
    files: tuple[Path, ...],
    model: str,
    schemes: tuple[str, ...],
    tenant: tuple[str, ...],
    threshold: float,
    spans: bool,
    nats_per_token: float,
    engine_url: str | None,
    question: Path | None,
    temperature: float,
    top_k: int,
    top_p: float,
    as_json: bool,
) -> None:
    """Tell whether the text in each of FILES (- for standard input) carries one of our marks, and whose.

    Example: signet detect answer.txt --json
    """
    sampling = Sampling(temperature, top_k, top_p)
    if engine_url is None and (sampling != PLAIN or question is not None):
        raise click.UsageError("--question, --temperature, --top-k and --top-p tell something with --engine-url only")
    asked = None if question is None else read_text(question).strip()
    settings = load_settings()
    ring = open_keyring(settings)
    keys = keys_to_try(ring, tenant)
    detector = open_detector(settings, model)
    results: list[dict[str, Any]] = []
    with click.progressbar(files, label="detecting", file=sys.stderr, hidden=len(files) == 1) as shown:
        for file in shown:
            text = read_text(file)
            likelihoods = (
                _engine_logprobs(engine_url, settings.engine_key, detector, text, asked) if engine_url else None
            )
            detection = detector.detect_text(
                text,
                keys,
                threshold=threshold,
                schemes=schemes,
                spans=spans,
                logprobs=likelihoods and likelihoods.logprobs,
                top_logprobs=likelihoods and likelihoods.top_logprobs,
                sampling=sampling,
                nats_per_token=nats_per_token,
                adjustments=ring.adjustments,
            )
            results.append(_as_json(detection) | ({"file": str(file)} if len(files) > 1 else {}))
            if not as_json:
                click.echo((f"{file}: " if len(files) > 1 else "") + _in_words(detection, text))
    if as_json:
        click.echo(json.dumps(results if len(files) > 1 else results[0]))


def _as_json(detection: Detection) -> dict[str, Any]:
    fields = dataclasses.asdict(detection)
    fields["keys"] = fields.pop("per_key")[:KEYS_SHOWN]
    return fields


def _in_words(detection: Detection, text: str) -> str:
    over = f"p = {detection.p_value:.2g} over {detection.tokens_scored} tokens"
    if not detection.marked:
        keys = f"{detection.keys_tried} key" + ("" if detection.keys_tried == 1 else "s")
        warmth = "" if detection.power_temperature is None else f" at temperature {detection.power_temperature:g}"
        if detection.verdict == "not_marked":
            power = _percent(detection.power)
            return f"No mark found: {over} and {keys}. A marked one{warmth} would be found with {power}."
        power = f"{_percent(detection.power)} only"
        return f"Cannot tell: {over} and {keys}. Even a marked one{warmth} would be found with {power}."
    revoked = ", with a revoked key" if detection.revoked else ""
    calibrated = ", calibrated" if detection.calibrated else ""
    lines = [f"Marked by {detection.tenant} ({detection.key_id}){revoked}, {over}{calibrated}."]
    for span in detection.spans:
        assert span.start is not None
        assert span.end is not None
        share = (span.end - span.start) / max(1, len(text))
        whose = "" if span.key_id == detection.key_id else f" by {span.tenant} ({span.key_id})"
        if share < 0.9 or whose:
            lines.append(f"  characters {span.start} to {span.end}{whose}, p < {span.p_value:.2g}")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{math.floor(100 * share)}%"


def _engine_logprobs(
    engine_url: str, key: str | None, detector: Detector, text: str, question: str | None
) -> EngineLogprobs:
    """What the engine's model says of the tokens of the text."""
    from serving.provenance.commands.engine import prompt_logprobs

    try:
        return prompt_logprobs(engine_url, detector.token_ids(text), question, key)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{engine_url} gives no log-probabilities: {error}") from None
