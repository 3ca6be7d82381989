"""The recipe of a data set: what is read, what is done to it step by step, and how it is split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from training.recipes.sections import Recipe, Section

Share = Annotated[float, Field(ge=0, le=1)]
Format = Literal["auto", "text", "sms-spam", "pubmedqa", "cuad"]


class DataSource(Section):
    """A file, a folder, or a data set in the registry."""

    path: Path
    """A file, a folder (also of a Hugging Face data set), or a data set's `NAME[@VERSION]`. Relative to the recipe."""
    format: Format = "auto"
    """`auto` recognizes JSONL, JSON, CSV, TSV, Parquet, Arrow and text. `text` reads any file as plain text.
    `sms-spam`, `pubmedqa` and `cuad` read the published files of these data sets."""
    files: str | None = None
    """Pattern of the names of the files to read in a folder, such as `*.py`. By default, the endings of data and text
    are read."""
    unit: Literal["line", "paragraph", "file"] = "paragraph"
    """How plain text files are divided into texts."""
    columns: dict[Literal["text", "label", "labels", "group", "messages"], str] = Field(default={})
    """The file's own column names: `{text: body, label: class}`."""
    side: Literal["train", "heldout"] | None = None
    """Side of a published split that these records belong to; needs `split.by: published`."""
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    """How often each record is trained on: 2 writes it twice, 0.5 keeps half of the records, drawn by the seed."""


class CleanSettings(Section):
    """Fixes to each text."""

    hidden_characters: bool = True
    """Remove invisible characters: control and format characters, terminal escapes."""
    repair: bool = True
    """Undo UTF-8 that was read as Windows-1252 (`CafÃ©`)."""
    compose: bool = True
    """Convert to Unicode's normal form C."""
    spaces: bool = True
    """Use `\\n` for line ends; remove trailing spaces, repeated blank lines, and those around the text."""
    boilerplate: Annotated[float, Field(gt=0, le=1)] | None = None
    """Remove lines that occur in at least this fraction of the texts (0.05), such as menus and legal notices."""


class LanguageSettings(Section):
    """Languages to keep."""

    keep: list[str]
    """ISO 639-1 codes, such as `[en, de]`. Texts of an unknown language are dropped."""


class QualitySettings(Section):
    """Requirements for a text."""

    min_characters: Annotated[int, Field(ge=0)] = 1
    """Shorter texts are dropped."""
    max_characters: Annotated[int, Field(ge=1)] | None = None
    """Longer texts are dropped."""
    max_symbols: Share = 0.5
    """Highest fraction of characters that are not letters, digits or spaces."""
    max_repetition: Share = 0.5
    """Highest fraction of characters in lines, or in runs of five words, that repeat an earlier part of the text."""


class DecontaminateSettings(Section):
    """Drops texts that contain evaluation data."""

    against: list[Path]
    """Evaluation files, in the formats of sources."""
    words: Annotated[int, Field(ge=3)] = 8
    """Number of consecutive words that no text may share with them. Shorter evaluation texts count as a whole."""


class PersonalSettings(Section):
    """The guard's detectors replace personal data and secrets by their kind (`[EMAIL_ADDRESS]`)."""

    kinds: tuple[str, ...] | None = None
    """Kinds to mask, such as `[EMAIL_ADDRESS, PERSON_NAME]`; default: those that a gateway masks in questions."""


class DeduplicateSettings(Section):
    """Which texts count as duplicates."""

    exact: bool = True
    """Drop texts that differ only in case and spaces."""
    fold_digits: bool = False
    """Also drop texts that differ only in digits and punctuation, as advertisements do."""
    near: Annotated[float, Field(gt=0.3, lt=1)] | None = 0.8
    """Drop texts that share at least this fraction of their runs of words with another (Jaccard, by MinHash)."""
    words: Annotated[int, Field(ge=1)] = 3
    """Length of these runs, in words."""


class SplitSettings(Section):
    """Records to hold out."""

    by: Literal["group", "row", "published"] = "group"
    """Hold out whole groups (`group` of records, else equal texts and questions), single rows, or as sources say."""
    heldout: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction to hold out, unless the split is published."""
    allow_leaks: bool = False
    """Allow held-out texts and groups in the training part. Measurements on them then say little."""


def _as_sources(value: Any) -> Any:
    """`sources: FILE` and one source without a list are short for a list of one."""
    values = value if isinstance(value, list) else [value]
    return [{"path": value} if isinstance(value, str) else value for value in values]


class DataRecipe(Recipe):
    """Makes a data set from files: cleaned, deduplicated and split, with a card that says what was dropped."""

    method: Literal["data"]
    """The method, which determines the other settings."""
    sources: Annotated[list[DataSource], BeforeValidator(_as_sources), Field(min_length=1)]
    """Files to read; `sources: FILE` is short for `sources: [{path: FILE}]`."""
    clean: CleanSettings | None = CleanSettings()
    """First step. `null` skips this or any other step."""
    language: LanguageSettings | None = None
    """Second step."""
    quality: QualitySettings | None = QualitySettings()
    """Third step."""
    decontaminate: DecontaminateSettings | None = None
    """Fourth step."""
    personal: PersonalSettings | None = None
    """Fifth step; `personal: {}` masks what the guard masks by default."""
    deduplicate: DeduplicateSettings | None = DeduplicateSettings()
    """Sixth step, always before the split."""
    split: SplitSettings = SplitSettings()
    """Last step."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.split.by != "published" and any(source.side for source in self.sources):
            raise ValueError("sources.side needs split.by: published")
        return self
