"""presidio-analyzer with a small spaCy model, or with none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from training.studies.guard.peers.question import serve

BLANK = "blank"
"""In place of a model: words as they are. Patterns and the words around them then count, names are not found."""


def language_engine(model: str) -> Any:
    """What reads sentences for presidio: a spaCy model, its folder, or `BLANK`."""
    from presidio_analyzer.nlp_engine import NlpEngineProvider, SpacyNlpEngine

    if model != BLANK:
        models = [{"lang_code": "en", "model_name": model}]
        return NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models}).create_engine()
    import spacy

    def words(doc: Any) -> Any:
        for token in doc:
            token.lemma_ = token.lower_  # words around a pattern are compared by their lemmas
        return doc

    engine, words_alone = SpacyNlpEngine(), spacy.blank("en")
    spacy.Language.component("words", func=words)
    words_alone.add_pipe("words")
    engine.nlp = {"en": words_alone}
    return engine


def spans(question: dict[str, Any]) -> Callable[[str], list[list[int]]]:
    """Where it finds the entities that are asked for."""
    from presidio_analyzer import AnalyzerEngine

    analyzer = AnalyzerEngine(nlp_engine=language_engine(question["model"]))
    wanted = question["entities"]
    return lambda text: [
        [entity.start, entity.end] for entity in analyzer.analyze(text, language="en", entities=wanted)
    ]


def named(question: dict[str, Any]) -> Callable[[str], list[list[Any]]]:
    """The same with the names of the entities, at a score that counts."""
    from presidio_analyzer import AnalyzerEngine

    nlp_engine, threshold = language_engine(question["model"]), question["threshold"]
    analyzer = AnalyzerEngine(nlp_engine=nlp_engine, default_score_threshold=threshold)
    wanted = question["entities"]
    return lambda text: [
        [entity.entity_type, entity.start, entity.end]
        for entity in analyzer.analyze(text, language="en", entities=wanted)
    ]


if __name__ == "__main__":
    serve({"spans": spans, "named": named}, ["presidio-analyzer"])
