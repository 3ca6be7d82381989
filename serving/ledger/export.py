"""The ledger's requests as a file: CSV, or Parquet with the extra `export`. Streams; memory does not grow."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from typing import IO, Any

from sqlalchemy import BigInteger, Boolean, Float, Integer, LargeBinary, func, select

from serving.database import Reader
from serving.ledger.record import requests
from serving.ledger.usage import RequestFilter

COLUMNS = [column for column in requests.columns if column.name != "id"]
NAMES = [column.name for column in COLUMNS]
_ROWS_AT_ONCE = 5000

Progress = Callable[[int, int], None]


class ExportError(Exception):
    """The export cannot be written; `str()` is one line."""


def export_csv(reader: Reader, selection: RequestFilter, file: IO[str], progress: Progress) -> int:
    """Write a header and one line a request, in the order of commit; gives their number. Hashes are hexadecimal.

    Raises:
        DatabaseError: the database cannot be read.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(NAMES)
    count = 0
    for rows in _batches(reader, selection, progress):
        writer.writerows([value.hex() if isinstance(value, bytes) else value for value in row] for row in rows)
        count += len(rows)
    return count


def export_parquet(reader: Reader, selection: RequestFilter, file: IO[bytes], progress: Progress) -> int:
    """Write one row group for each few thousand requests; gives the number of requests.

    Raises:
        ExportError: pyarrow is not installed.
        DatabaseError: the database cannot be read.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ExportError("Parquet needs pyarrow: pip install 'signet[export]'") from None
    kinds = {
        BigInteger: pyarrow.int64(),
        Boolean: pyarrow.bool_(),
        Integer: pyarrow.int64(),
        Float: pyarrow.float64(),
        LargeBinary: pyarrow.binary(),
    }
    schema = pyarrow.schema([(column.name, kinds.get(type(column.type), pyarrow.string())) for column in COLUMNS])
    count = 0
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for rows in _batches(reader, selection, progress):
            columns = [
                pyarrow.array(values, kind) for values, kind in zip(zip(*rows, strict=True), schema.types, strict=True)
            ]
            writer.write_batch(pyarrow.record_batch(columns, schema=schema))
            count += len(rows)
    return count


def _batches(reader: Reader, selection: RequestFilter, progress: Progress) -> Iterator[list[tuple[Any, ...]]]:
    with reader.connect() as connection:
        total = connection.scalar(selection.of(select(func.count()).select_from(requests))) or 0
        query = selection.of(select(*COLUMNS).order_by(requests.c.id)).execution_options(yield_per=_ROWS_AT_ONCE)
        done = 0
        for rows in connection.execute(query).partitions():
            yield [tuple(row) for row in rows]
            done += len(rows)
            progress(done, total)
