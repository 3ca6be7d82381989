"""The recipe of a data set: what is read, what is done to it step by step, and how it is split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from training.recipes.sections import Recipe, Section

Share = Annotated[float, Field(ge=0, le=1)]
Format = Literal["auto", "text", "sms-spam", "pubmedqa", "cuad"]


class DataSource(Section):
    """One file, folder, or data set of the registry that is read."""

    path: Path
    """A file, a folder (Hugging Face data sets too), or `NAME[@VERSION]` of a data set; paths start at the recipe."""
    format: Format = "auto"
    """`auto`: JSONL, JSON, CSV, TSV, Parquet, Arrow or text, by itself; `text` reads any file as plain text; or the
    published files of a domain: `sms-spam`, `pubmedqa`, `cuad`."""
    unit: Literal["line", "paragraph", "file"] = "paragraph"
    """What one text of a plain text file is."""
    columns: dict[Literal["text", "label", "labels", "group", "messages"], str] = Field(default={})
    """Where the file calls them otherwise: `{text: body, label: class}`."""
    side: Literal["train", "heldout"] | None = None
    """Of a published split: where these records go; with `split.by: published`."""
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    """How many times a record is trained on: 2 writes it twice, 0.5 keeps a half of them, drawn by the seed."""


class CleanSettings(Section):
    """What is put right in each text."""

    hidden_characters: bool = True
    """Take out what no reader sees: control and format characters, terminal escapes."""
    repair: bool = True
    """Undo UTF-8 that was read as Windows-1252 (`CafÃ©`)."""
    compose: bool = True
    """Unicode's normal form C."""
    spaces: bool = True
    """Line ends as `\\n`, no spaces before them, at most one blank line at once, none around the text."""
    boilerplate: Annotated[float, Field(gt=0, le=1)] | None = None
    """Take out lines that stand in at least this part of the texts (0.05), such as menus and legal notices."""


class LanguageSettings(Section):
    """Which languages are kept."""

    keep: list[str]
    """ISO 639-1 codes, as in `[en, de]`; a text whose language is not known is dropped."""


class QualitySettings(Section):
    """What a text must be like."""

    min_characters: Annotated[int, Field(ge=0)] = 1
    """Shorter ones are dropped."""
    max_characters: Annotated[int, Field(ge=1)] | None = None
    """Longer ones are dropped."""
    max_symbols: Share = 0.5
    """Most signs that are neither letters, digits nor spaces, as a part of the characters."""
    max_repetition: Share = 0.5
    """Most characters in lines, or in runs of five words, that came before in the text, as a part of all."""


class DecontaminateSettings(Section):
    """No text may hold what is evaluated on."""

    against: list[Path]
    """Files of the evaluation, read as sources are."""
    words: Annotated[int, Field(ge=3)] = 8
    """Length of the runs of words that must not be shared; a shorter evaluation text counts as a whole."""


class PersonalSettings(Section):
    """Personal data and secrets are replaced by their kind (`[EMAIL_ADDRESS]`), by the guard's detectors."""

    kinds: tuple[str, ...] | None = None
    """Which are masked, as in `[EMAIL_ADDRESS, PERSON_NAME]`; by default those that a gateway masks in questions."""


class DeduplicateSettings(Section):
    """Which texts are one."""

    exact: bool = True
    """Drop texts that are equal but for case and spaces."""
    fold_digits: bool = False
    """Take texts that differ only in digits and punctuation for equal, as in advertisements."""
    near: Annotated[float, Field(gt=0.3, lt=1)] | None = 0.8
    """Drop texts of which so large a part of the runs of words is the same (Jaccard, by MinHash)."""
    words: Annotated[int, Field(ge=1)] = 3
    """Length of these runs."""


class SplitSettings(Section):
    """Which records are held out."""

    by: Literal["group", "row", "published"] = "group"
    """Whole groups (`group` of a record, else equal texts and questions), single rows, or as the sources say."""
    heldout: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Which part, where the split is not published."""
    allow_leaks: bool = False
    """Whether a held-out text or group may be trained on too: what is measured on it then says little."""


def _as_sources(value: Any) -> Any:
    """`sources: FILE` and one source without a list are short for a list of one."""
    values = value if isinstance(value, list) else [value]
    return [{"path": each} if isinstance(each, str) else each for each in values]


class DataRecipe(Recipe):
    """Files become a data set: read, cleaned, without duplicates, split, with a card that says what was dropped."""

    method: Literal["data"]
    """What is done; the rest of the recipe depends on it."""
    sources: Annotated[list[DataSource], BeforeValidator(_as_sources), Field(min_length=1)]
    """What is read; `sources: FILE` is short for `sources: [{path: FILE}]`."""
    clean: CleanSettings | None = CleanSettings()
    """First step; `null` leaves it out, as with the others."""
    language: LanguageSettings | None = None
    """Second step."""
    quality: QualitySettings | None = QualitySettings()
    """Third step."""
    decontaminate: DecontaminateSettings | None = None
    """Fourth step."""
    personal: PersonalSettings | None = None
    """Fifth step; `personal: {}` masks what the guard can find."""
    deduplicate: DeduplicateSettings | None = DeduplicateSettings()
    """Sixth step, always before the split."""
    split: SplitSettings = SplitSettings()
    """Last step."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.split.by != "published" and any(source.side for source in self.sources):
            raise ValueError("sources.side needs split.by: published")
        return self
