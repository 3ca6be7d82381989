"""presidio-analyzer with a small spaCy model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loadtests.peers.question import serve


def spans(question: dict[str, Any]) -> Callable[[str], list[list[int]]]:
    """Where it finds the entities that are asked for."""
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    models = [{"lang_code": "en", "model_name": question["model"]}]
    provider = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models})
    analyzer = AnalyzerEngine(nlp_engine=provider.create_engine())
    wanted = question["entities"]
    return lambda text: [[found.start, found.end] for found in analyzer.analyze(text, language="en", entities=wanted)]


if __name__ == "__main__":
    serve({"spans": spans}, ["presidio-analyzer"])
