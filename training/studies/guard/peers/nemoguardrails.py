"""NeMo Guardrails' rails that need no model from elsewhere: patterns, and presidio on its buffered streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from typing import Any

from training.studies.guard.peers.presidio import language_engine
from training.studies.guard.peers.question import serve


def rules(question: dict[str, Any]) -> Callable[[str], bool]:
    """Whether its rules against injected code reject a text."""
    from nemoguardrails import RailsConfig, library

    injection = import_module(f"{library.__name__}.injection_detection.actions")

    config = RailsConfig.from_content(
        yaml_content="models: []\nrails:\n  config:\n    injection_detection:\n      action: reject\n"
        "      injections: [code, sqli, template, xss]\n"
    )
    _, path, names, given = injection._extract_injection_config(config)
    compiled = injection._load_rules(path, names, given)
    return lambda text: bool(injection._reject_injection(text, compiled)[0])


def streams(question: dict[str, Any]) -> Callable[[list[str]], str]:
    """What a client has of an answer's pieces, with its buffer of default size before detection by presidio."""
    from nemoguardrails.rails.llm.buffer import RollingBuffer
    from nemoguardrails.rails.llm.config import OutputRailsStreamingConfig
    from presidio_analyzer import AnalyzerEngine

    analyzer = AnalyzerEngine(nlp_engine=language_engine(question["model"]), default_score_threshold=0.2)
    config = OutputRailsStreamingConfig(enabled=True)
    first = question["stream_first"]

    async def relay(pieces: list[str]) -> str:
        async def pieces_of() -> AsyncIterator[str]:
            for piece in pieces:
                yield piece

        sent = ""
        async for batch in RollingBuffer.from_config(config).process_stream(pieces_of()):
            new = "".join(batch.user_output_chunks)
            sent += new if first else ""
            checked = "".join(batch.processing_context)
            if analyzer.analyze(checked, language="en", entities=question["entities"]):
                break
            sent += "" if first else new
        return sent

    return lambda pieces: asyncio.run(relay(pieces))


if __name__ == "__main__":
    serve({"rules": rules, "streams": streams}, ["nemoguardrails"])
