"""llm-guard's scanners that need no model from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from training.studies.guard.peers.presidio import language_engine
from training.studies.guard.peers.question import serve


def spans(question: dict[str, Any]) -> Callable[[str], list[list[int]]]:
    """Where Anonymize finds something, with a small spaCy model in the place of its own, which has to be fetched."""
    from llm_guard.input_scanners.anonymize import DEFAULT_ENTITY_TYPES
    from llm_guard.input_scanners.anonymize_helpers import analyzer, get_regex_patterns
    from presidio_analyzer.predefined_recognizers import SpacyRecognizer

    analyzer._get_nlp_engine = lambda languages: language_engine(question["model"])
    names = SpacyRecognizer()
    names.name = "Names"  # what has presidio's own name is taken out
    engine = analyzer.get_analyzer(names, get_regex_patterns(), [], ["en"])
    return lambda text: [
        [entity.start, entity.end]
        for entity in engine.analyze(text, language="en", entities=DEFAULT_ENTITY_TYPES, score_threshold=0.5)
    ]


def secrets(question: dict[str, Any]) -> Callable[[str], str]:
    from llm_guard.input_scanners import Secrets
    from llm_guard.input_scanners.secrets import REDACT_ALL

    scanner = Secrets(redact_mode=REDACT_ALL)
    return lambda text: str(scanner.scan(text)[0])


def invisible(question: dict[str, Any]) -> Callable[[str], str]:
    from llm_guard.input_scanners import InvisibleText

    scanner = InvisibleText()
    return lambda text: str(scanner.scan(text)[0])


def substrings(question: dict[str, Any]) -> Callable[[str], str]:
    """With the strings to be found given by the question."""
    from llm_guard.input_scanners import BanSubstrings

    scanner = BanSubstrings(question["substrings"], case_sensitive=True, redact=True)
    return lambda text: str(scanner.scan(text)[0])


if __name__ == "__main__":
    serve({"spans": spans, "secrets": secrets, "invisible": invisible, "substrings": substrings}, ["llm-guard"])
