"""llm-guard's scanners that need no model from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loadtests.peers.question import serve


def spans(question: dict[str, Any]) -> Callable[[str], list[list[int]]]:
    """Where the patterns of Anonymize find something: without its model, which finds names."""
    from llm_guard.input_scanners.anonymize import DEFAULT_ENTITY_TYPES
    from llm_guard.input_scanners.anonymize_helpers import get_analyzer, get_regex_patterns
    from presidio_analyzer import EntityRecognizer

    class NoModel(EntityRecognizer):  # type: ignore[misc]
        """In the place of the model."""

        def load(self) -> None: ...

        def analyze(self, text: str, entities: list[str], nlp_artifacts: Any) -> list[Any]:
            return []

    analyzer = get_analyzer(NoModel(["PERSON"]), get_regex_patterns(), [], ["en"])
    return lambda text: [
        [found.start, found.end]
        for found in analyzer.analyze(text, language="en", entities=DEFAULT_ENTITY_TYPES, score_threshold=0.5)
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
