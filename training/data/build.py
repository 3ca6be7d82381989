"""From sources to a data set, in two passes over files that may be larger than memory.

First every record goes through the steps that look at it alone, and what is left is written to a file of its own; then
duplicates are known, and what is kept is split and written out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from training.data.card import Statistics
from training.data.cleaning import LineCounts, PersonalData
from training.data.duplicates import Duplicates
from training.data.files import JsonLines, opened, read_json_lines, sha256_of
from training.data.published import PUBLISHED
from training.data.records import KINDS, Record, record_of
from training.data.rows import read_rows
from training.data.sources import files_of, side_of
from training.data.splitting import Split, position
from training.data.steps import Step, steps_of
from training.errors import DataError
from training.progress import OnProgress
from training.recipes.data import DataRecipe, DataSource

OTHER_LABELS = "other labels than what was kept"
# Between two reports of progress.
_PROGRESS_RECORDS = 200


@dataclass(frozen=True)
class SourceFile:
    """One file that is read, and how."""

    path: Path
    name: str
    """What the card calls it: the same wherever the file lies, so that equal data has equal cards."""
    settings: DataSource
    side: Any = None
    """Of a published split, by the file's name."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size


@dataclass(frozen=True)
class Built:
    """What a build did; the files lie in its folder."""

    sources: list[dict[str, Any]]
    steps: list[Step]
    train: JsonLines
    heldout: JsonLines
    statistics: Statistics
    num_read: int
    leaks: int
    """Held-out records that are trained on too, which the recipe allows."""
    size: int
    """Bytes read."""


def source_files(sources: Sequence[tuple[DataSource, Path]]) -> list[SourceFile]:
    """Every file of the sources, whose paths are resolved; raises DataError where one is missing."""
    files = []
    for settings, path in sources:
        if not path.exists():
            raise DataError(f"{path}: there is no such file or folder, and no such data set in the registry")
        if settings.format in PUBLISHED and path.is_dir():
            path = path / PUBLISHED[settings.format][1]
        for file in files_of(path, settings.files):
            within = file.relative_to(path).as_posix() if path.is_dir() else ""
            name = f"{path.name}/{within}" if within else file.name
            side = settings.side or (side_of(file, path) if path.is_dir() else None)
            files.append(SourceFile(file, name, settings, side))
    return files


def build(
    recipe: DataRecipe,
    files: Sequence[SourceFile],
    evaluations: Sequence[SourceFile],
    folder: Path,
    work: Path,
    on_progress: OnProgress,
) -> Built:
    """Write `train.jsonl` and `heldout.jsonl` into `folder`; `work` takes what is needed meanwhile.

    Raises DataError naming file, line and cause, or how many held-out records leak.
    """
    masking = PersonalData()
    steps = steps_of(recipe, list(_evaluation_texts(evaluations)), _boilerplate(recipe, files))
    duplicates = Duplicates(recipe.deduplicate, recipe.seed, work / "signatures") if recipe.deduplicate else None
    progress = _Progress(files, on_progress)
    sources: list[dict[str, Any]] = []
    with JsonLines(work / "records.jsonl") as passed:
        kind = ""
        for file in files:
            rows = 0
            for record in progress.of(file):
                kind = _same_kind(kind, record)
                rows += 1
                if all(step.keeps(record, masking) for step in steps):
                    if duplicates is not None:
                        duplicates.add(record)
                    passed.write([record.kind, record.row, record.source, record.side, record.weight])
            sources.append({"name": file.name, "sha256": sha256_of(file.path), "bytes": file.size, "rows": rows})
    num_read = sum(source["rows"] for source in sources)
    if not num_read:
        raise DataError(f"{files[0].path}: holds no records")
    kept: Iterator[Record] = (Record(*values) for values in read_json_lines(passed.path))
    if duplicates is not None:
        step, kept = _without_duplicates(duplicates, kept, masking)
        steps.append(step)
    without_digits = recipe.deduplicate is not None and recipe.deduplicate.fold_digits
    split, statistics = Split(recipe.split, recipe.seed, without_digits), Statistics()
    with JsonLines(folder / "train.jsonl") as train, JsonLines(folder / "heldout.jsonl") as heldout:
        for index, record in enumerate(kept):
            side = split.side(record, index)
            times = 1 if side == "heldout" else _times(record, recipe.seed, index)
            for _ in range(times):
                (heldout if side == "heldout" else train).write(record.row)
            statistics.add(record, side, times)
    leaks = split.check(recipe.name)
    passed.path.unlink()
    return Built(sources, steps, train, heldout, statistics, num_read, leaks, sum(file.size for file in files))


class _Progress:
    """Reads files, and says how far."""

    def __init__(self, files: Sequence[SourceFile], report: OnProgress) -> None:
        self._total = sum(file.size for file in files)
        self._before = 0
        self._report = report

    def of(self, source: SourceFile) -> Iterator[Record]:
        with opened(source.path) as file:
            for number, record in enumerate(read_records(source, file)):
                if number % _PROGRESS_RECORDS == 0 and not file.closed:
                    self._report(self._before + min(file.tell(), source.size), self._total)
                yield record
        self._before += source.size
        self._report(self._before, self._total)


def read_records(source: SourceFile, file: BinaryIO) -> Iterator[Record]:
    """The records of one file; raises DataError at the first that is none."""
    settings = source.settings
    if settings.format in PUBLISHED:
        for place, row, side in PUBLISHED[settings.format][0](source.path, file):
            record = record_of(row, place, {})
            yield Record(record.kind, record.row, place, source.side or side, settings.weight)  # type: ignore[arg-type]
        return
    for place, row in read_rows(source.path, file, settings.unit, as_text=settings.format == "text"):
        record = record_of(row, place, settings.columns)
        record.side, record.weight = source.side, settings.weight
        yield record


def _evaluation_texts(files: Sequence[SourceFile]) -> Iterator[str]:
    for source in files:
        with opened(source.path) as file:
            for place, row in read_rows(source.path, file, source.settings.unit):
                texts = [*_texts_in(row)]
                if not texts:
                    raise DataError(f"{place}: holds no text to keep out")
                yield from texts


def _texts_in(value: Any) -> Iterator[str]:
    """Evaluations have columns of their own: whatever text they hold counts, if it is longer than a label."""
    if isinstance(value, str):
        if len(value.split()) > 2:
            yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(item)


def _boilerplate(recipe: DataRecipe, files: Sequence[SourceFile]) -> LineCounts | None:
    """A pass of its own, before any line can be called frequent."""
    if recipe.clean is None or recipe.clean.boilerplate is None:
        return None
    lines = LineCounts()
    for source in files:
        with opened(source.path) as file:
            for record in read_records(source, file):
                lines.add(record.text)
    return lines


def _same_kind(kind: str, record: Record) -> str:
    own_kind = KINDS[record.kind] + (" with lists" if "labels" in record.row else "")
    if kind and own_kind != kind:
        raise DataError(f"{record.source}: is one of {own_kind}, where the records before are {kind}")
    return own_kind


def _without_duplicates(
    duplicates: Duplicates, records: Iterator[Record], masking: PersonalData
) -> tuple[Step, Iterator[Record]]:
    step = Step("deduplicate")
    verdict = duplicates.resolve()
    step.details[OTHER_LABELS] = verdict.num_conflicts

    def kept() -> Iterator[Record]:
        for index, record in enumerate(records):
            step.seen += 1
            reason = verdict.dropped.get(index)
            if reason is None:
                yield record
            else:
                step.drop(record, reason, masking)

    return step, kept()


def _times(record: Record, seed: int, index: int) -> int:
    """A weight's whole part, and once more with the rest as the chance."""
    whole = int(record.weight)
    return whole + (position(f"{seed} weight {index}") < record.weight - whole)
