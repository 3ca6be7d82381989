"""Data sets as their authors published them, read into records: their own files, columns and splits."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from training.data.rows import cells_of, text_of
from training.errors import DataError

PublishedRow = tuple[str, dict[str, Any], str | None]
"""Where it stands, the record's row, and the side of the published split."""

# One copy in circulation has spaces in place of the first line's TAB.
_MESSAGE = re.compile(r"(ham|spam)(?:\t| {2,})(.*)")


def _sms_spam(path: Path, file: BinaryIO) -> Iterator[PublishedRow]:
    """The SMS Spam Collection (Almeida et al. 2011), `SMSSpamCollection`: label TAB text."""
    with text_of(file) as text:
        for number, line in enumerate(text, start=1):
            if not line.strip():
                continue
            match = _MESSAGE.fullmatch(line.rstrip("\r\n"))
            if match is None:
                raise DataError(f'{path}:{number}: is not "ham TAB text" or "spam TAB text"')
            if match[2].strip():
                yield f"{path}:{number}", {"text": match[2], "label": match[1]}, None


def _pubmedqa(path: Path, file: BinaryIO) -> Iterator[PublishedRow]:
    """PubMedQA's labelled part (Jin et al. 2019): `ori_pqal.json` beside `test_ground_truth.json`, its test split."""
    truth = path.with_name("test_ground_truth.json")
    heldout = _json(truth, truth.read_bytes()) if truth.exists() else {}
    for identifier, entry in _json(path, file.read()).items():
        source = f"{path}: {identifier}"
        try:
            text = "\n".join([entry["QUESTION"], *entry["CONTEXTS"]])
            row = {"text": text, "label": entry["final_decision"], "group": identifier}
        except (KeyError, TypeError) as error:
            raise DataError(f"{source}: is not an entry of PubMedQA: {error} is missing") from None
        yield source, row, "heldout" if identifier in heldout else "train"


def _cuad(path: Path, file: BinaryIO) -> Iterator[PublishedRow]:
    """CUAD v1's `master_clauses.csv`: a contract a row, a column of spans for each category, and its answer.

    Out come the spans, each once in its contract, with all the categories it stands under; the contract is its group.
    """
    with text_of(file) as text:
        for source, cells in cells_of(path, text, lower=False):
            for span, names in _categories(cells, source).items():
                yield source, {"text": span, "labels": names, "group": cells["Filename"]}, None


def _categories(cells: dict[str, str], source: str) -> dict[str, list[str]]:
    """Under which categories each span of a contract stands."""
    if not cells.get("Filename"):
        raise DataError(f"{source}: has no Filename, as master_clauses.csv has")
    by_span: dict[str, list[str]] = {}
    for name, cell in cells.items():
        if name != "Filename" and f"{name}-Answer" in cells:
            for span in dict.fromkeys(" ".join(span.split()) for span in _spans(cell, f"{source}: {name}")):
                by_span.setdefault(span, []).append(name)
    return by_span


def _spans(cell: str, where: str) -> list[str]:
    try:
        spans = ast.literal_eval(cell) if cell.strip() else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        spans = None
    if not isinstance(spans, list) or not all(isinstance(span, str) for span in spans):
        raise DataError(f"{where}: is not a list of texts")
    return [span for span in spans if span.strip()]


def _json(path: Path, content: bytes) -> dict[str, Any]:
    try:
        made = json.loads(content)
    except ValueError as error:
        raise DataError(f"{path}: is not JSON: {error}") from None
    if not isinstance(made, dict):
        raise DataError(f"{path}: is not a JSON object of entries")
    return made


PUBLISHED: dict[str, tuple[Callable[[Path, BinaryIO], Iterator[PublishedRow]], str]] = {
    "sms-spam": (_sms_spam, "SMSSpamCollection"),
    "pubmedqa": (_pubmedqa, "ori_pqal.json"),
    "cuad": (_cuad, "master_clauses.csv"),
}
"""By format: what reads the file, and the file's name, where a folder is given."""
