"""From files to rows, one at a time: JSONL, JSON, CSV, TSV, Parquet, Arrow, plain text, each gzipped or not.

What a file is follows from its first bytes, then from its name. Text is UTF-8 or UTF-16, with or without a byte order
mark; lines end as on any system. A file larger than memory is read in a small part of it; only a JSON array or
object is read whole.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO, cast

from training.errors import DataError

Row = tuple[str, dict[str, Any]]
"""Where it stands (`file:line`), and what it says."""
Unit = Literal["line", "paragraph", "file"]

_KNOWN_COLUMNS = frozenset(
    {"text", "label", "labels", "messages", "conversations", "instruction", "prompt", "content", "sentence", "question"}
)
_SEPARATORS = (",", "\t", ";", "|")
_HEAD = 8192
# Of one cell: a contract is long, and a quote that never closes is a mistake.
_MOST_CELL_CHARACTERS = 64 << 20
# Where no blank line comes, a text ends here, so that a file of any size fits into memory.
_MOST_PARAGRAPH_CHARACTERS = 1 << 20


def read_rows(path: Path, file: BinaryIO, unit: Unit = "paragraph", *, as_text: bool = False) -> Iterator[Row]:
    """The rows of a seekable binary file; raises DataError naming file, line and cause."""
    head = file.read(_HEAD)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        yield from _gunzipped(path, file, unit, as_text)
    elif head.startswith((b"PAR1", b"ARROW1")) or path.suffix == ".arrow":
        yield from _arrow_rows(path, file, head)
    else:
        begin = head.decode(encoding_of(head), "ignore")
        try:
            with text_of(file) as text:
                yield from _text_rows(path, text, begin, unit, as_text)
        except UnicodeDecodeError:
            raise _not_unicode(path, file, head) from None


def whole_rows(path: Path, content: bytes, unit: Unit = "paragraph") -> Iterator[Row]:
    """The rows of a file that was read whole, to train on; a text that is no Unicode is a DataError, too."""
    for source, row in read_rows(path, io.BytesIO(content), unit):
        if not _is_unicode(row):
            raise DataError(f"{source}: has half of a surrogate pair, which is not a character")
        yield source, row


def _is_unicode(value: Any) -> bool:
    """Whether every text can be encoded: JSON's escapes can write what no encoding has."""
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, dict):
        return all(_is_unicode(key) and _is_unicode(item) for key, item in value.items())
    return all(map(_is_unicode, value)) if isinstance(value, list) else True


def _gunzipped(path: Path, file: BinaryIO, unit: Unit, as_text: bool) -> Iterator[Row]:
    try:
        with gzip.GzipFile(fileobj=file) as content:
            inner = path.with_suffix("") if path.suffix == ".gz" else path
            yield from read_rows(inner, cast("BinaryIO", content), unit, as_text=as_text)
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: is cut short or not gzip: {error}") from None


def encoding_of(content: bytes) -> str:
    """By a byte order mark, or by where the zero of the first character lies, which is ASCII (RFC 4627, 3)."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    first = content[:2]
    if len(first) == 2 and first.count(0) == 1:
        return "utf-16-le" if first[1] == 0 else "utf-16-be"
    return "utf-8-sig"


def decoded(content: bytes, path: Path) -> str:
    """A file's text, whatever Unicode encoding it is in; raises DataError naming the line that is in none."""
    try:
        return content.decode(encoding_of(content))
    except UnicodeDecodeError:
        raise _not_unicode(path, io.BytesIO(content), content[:_HEAD]) from None


@contextmanager
def text_of(file: BinaryIO) -> Iterator[TextIO]:
    """A binary file as text, in the encoding that its first bytes tell; the file itself stays open."""
    encoding = encoding_of(file.read(4))
    file.seek(0)
    # newline="" leaves line ends alone within quoted cells; the lines of other formats are stripped.
    text = io.TextIOWrapper(file, encoding=encoding, newline="")
    try:
        yield text
    finally:
        if not file.closed:  # by who stopped reading early
            text.detach()


def _not_unicode(path: Path, file: BinaryIO, head: bytes) -> DataError:
    """The decoder runs ahead of the lines, so the line is looked for anew."""
    encoding = encoding_of(head)
    file.seek(0)
    if encoding != "utf-8-sig":
        return DataError(f"{path}: is not UTF-16: save the file as UTF-8, if it is text")
    for number, line in enumerate(file, start=1):
        try:
            line.decode()
        except UnicodeDecodeError:
            return DataError(f"{path}:{number}: is not UTF-8: save the file as UTF-8")
    return DataError(f"{path}: is not UTF-8: save the file as UTF-8")


def _text_rows(path: Path, file: TextIO, head: str, unit: Unit, as_text: bool) -> Iterator[Row]:
    first_line = head.lstrip().splitlines()[0] if head.strip() else ""
    if as_text:
        yield from _plain_rows(path, file, unit)
    elif first_line.startswith("{") and path.suffix == ".json":
        yield from _object_rows(path, file)
    elif first_line.startswith("{"):
        yield from _json_rows(path, file)
    elif first_line.startswith("[") and path.suffix in (".json", ".jsonl"):
        yield from _elements(path, _loaded(path, file))
    elif separator := _separator(first_line, is_table=path.suffix in (".csv", ".tsv")):
        yield from cells_of(path, file, separator)
    elif "\t" in first_line:
        yield from _tab_rows(path, file)
    elif path.suffix in (".jsonl", ".json"):
        yield from _json_rows(path, file)
    else:
        yield from _plain_rows(path, file, unit)


def _separator(header: str, *, is_table: bool) -> str | None:
    """What parts a header that has a known column, or any header of a table; many countries' spreadsheets write `;`."""
    for separator in _SEPARATORS:
        names = [cell.strip().strip('"').lower() for cell in header.split(separator)]
        if len(names) > 1 and _KNOWN_COLUMNS.intersection(names):
            return separator
    return max(_SEPARATORS, key=header.count) if is_table else None


def _lines(file: TextIO) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_universal(file), start=1):
        if line.strip():
            yield number, line


def _universal(file: TextIO) -> Iterator[str]:
    """Lines without their ends: a carriage return alone ends one too."""
    for line in file:
        yield line.rstrip("\r\n")


def _json_rows(path: Path, file: TextIO) -> Iterator[Row]:
    for number, line in _lines(file):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: is not JSON: {error.msg} at character {error.colno}") from None
        except (ValueError, RecursionError):
            raise DataError(f"{path}:{number}: is JSON nested too deeply, or with a number too long") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: is not a JSON object")
        yield f"{path}:{number}", row


def _object_rows(path: Path, file: TextIO) -> Iterator[Row]:
    """JSON lines that are called `.json`; or one object: a row, or what holds the list of rows (`{"data": […]}`)."""
    begin = [line for _, (_, line) in zip(range(2), _lines(file), strict=False)]
    file.seek(0)
    if len(begin) == 2 and _is_json(begin[0]):
        yield from _json_rows(path, file)
        return
    whole = _loaded(path, file)
    lists = [value for value in whole.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(lists) == 1 and not _KNOWN_COLUMNS.intersection(whole):
        yield from _elements(path, lists[0])
    else:
        yield f"{path}:1", whole


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _loaded(path: Path, file: TextIO) -> Any:
    try:
        return json.load(file)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: is not JSON: {error.msg} at character {error.colno}") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path}: is JSON nested too deeply, or with a number too long") from None


def _elements(path: Path, rows: list[Any]) -> Iterator[Row]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{path}: element {number} is not a JSON object")
        yield f"{path}: element {number}", row


def cells_of(path: Path, file: TextIO, separator: str = ",", lower: bool = True) -> Iterator[Row]:
    """The rows of a table with a header, its names in lower case. Raises DataError where a row has other columns."""
    csv.field_size_limit(_MOST_CELL_CHARACTERS)
    reader = csv.reader(file, delimiter=separator, strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            if not any(cells):
                continue
            if not header:
                header = [name.strip().lower() if lower else name.strip() for name in cells]
                continue
            if len(cells) != len(header):
                raise DataError(f"{path}:{reader.line_num}: has {len(cells)} columns, the header {len(header)}")
            yield f"{path}:{reader.line_num}", dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: is not CSV: {error}") from None


def _tab_rows(path: Path, file: TextIO) -> Iterator[Row]:
    for number, line in _lines(file):
        label, tab, words = line.partition("\t")
        if not tab:
            raise DataError(f'{path}:{number}: is neither {{"text": …, "label": …}} nor "label TAB text"')
        yield f"{path}:{number}", {"label": label, "text": words}


def _plain_rows(path: Path, file: TextIO, unit: Unit) -> Iterator[Row]:
    if unit == "line":
        for number, line in _lines(file):
            yield f"{path}:{number}", {"text": line}
        return
    begun, lines, size = 1, list[str](), 0
    for number, line in enumerate(_universal(file), start=1):
        if line.strip() or unit == "file":
            begun = begun if lines else number
            lines.append(line)
            size += len(line)
        if lines and unit == "paragraph" and (not line.strip() or size > _MOST_PARAGRAPH_CHARACTERS):
            yield f"{path}:{begun}", {"text": "\n".join(lines)}
            lines, size = [], 0
    if any(line.strip() for line in lines):
        yield f"{path}:{begun}", {"text": "\n".join(lines)}


def _arrow_rows(path: Path, file: BinaryIO, head: bytes) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise DataError(f"{path}: reading it needs pyarrow: pip install 'signet[export]'") from None
    number = 0
    try:
        for batch in _batches(pa, pq, file, head):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}: row {number}", _without_nulls(row)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise DataError(f"{path}: cannot be read after row {number}: {str(error).splitlines()[0]}") from None


def _batches(pa: Any, pq: Any, file: BinaryIO, head: bytes) -> Iterator[Any]:
    if head.startswith(b"PAR1"):
        yield from pq.ParquetFile(file).iter_batches(batch_size=256)
    elif head.startswith(b"ARROW1"):
        reader = pa.ipc.open_file(file)
        yield from (reader.get_batch(index) for index in range(reader.num_record_batches))
    else:  # as `datasets` writes it
        yield from pa.ipc.open_stream(file)


def _without_nulls(value: Any) -> Any:
    """Columns give every record of a list every field that any has: null there means that it was not written."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
