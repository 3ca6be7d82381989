"""Settings of the classifiers: which are asked, what a flag leads to, and how long they may take."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Action = Literal["off", "flag", "block"]


class ClassifierSettings(BaseModel):
    """One classifier on the way of requests to an engine."""

    model_config = ConfigDict(extra="forbid")

    action: Action = Field(
        default="off",
        description="`off`: not asked; `flag`: counted and logged, the request goes on; `block`: refused with 400 "
        "`content_blocked`.",
    )
    threshold: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Score from which on a text is flagged; default: the one that the model was shipped with, chosen "
        "for at most 2 % false flags.",
    )
    on_failure: Literal["open", "closed"] = Field(
        default="open",
        description="What a classifier that fails or takes too long leads to: `open`, the request goes on; `closed`, "
        "it is refused with 503 `classifier_unavailable`.",
    )


class PerspectiveSettings(BaseModel):
    """Google's Perspective API as one more voice on toxicity. Texts leave the house: it is off without a key."""

    model_config = ConfigDict(extra="forbid")

    key: SecretStr | None = Field(default=None, description="API key; without one the service is never asked.")
    url: str = Field(
        default="https://commentanalyzer.googleapis.com/v1alpha1/comments:analyze",
        description="Where the service is, for a proxy of your own.",
    )
    timeout_s: float = Field(default=2.0, gt=0, description="Seconds to wait for one answer.")
    requests_per_second: float = Field(default=1.0, gt=0, description="Asked no more often: Google's quota is one.")
    cached_texts: int = Field(default=4096, ge=0, description="Answers remembered, by a digest of the text.")


class ClassifiersSettings(BaseModel):
    """Classifiers of attacks and toxicity."""

    model_config = ConfigDict(extra="forbid")

    attack: ClassifierSettings = ClassifierSettings()
    indirect: ClassifierSettings = ClassifierSettings()
    toxicity: ClassifierSettings = ClassifierSettings()
    budget_ms: float = Field(
        default=2000.0, gt=0, description="Milliseconds that all classifiers may take for one request."
    )
    threads: int = Field(default=1, ge=1, le=16, description="Threads that classifiers run on, off the event loop.")
    max_chars: int = Field(
        default=16_000,
        ge=1000,
        description="Characters of one text that are read; of a longer one its beginning and its end, half each.",
    )
    mark_data: bool = Field(
        default=False,
        description="Put results of tools and documents between delimiters that say they are data, no instructions.",
    )
    encoder: Path | None = Field(
        default=None,
        description="Folder of the sentence encoder that the weights were trained with (all-MiniLM-L6-v2): `attack` "
        "asks it about texts that it is unsure of. Without one it decides alone.",
    )
    perspective: PerspectiveSettings = PerspectiveSettings()
