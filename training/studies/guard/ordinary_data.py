"""Data as programs write it: rows of numbers, dumps, identifiers, logs. Made up, and by the same numbers the same."""

from __future__ import annotations

import csv
import io
import json
import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from training.studies.guard.ordinary_written import WRITTEN


def _lines(line: Callable[[random.Random], str], least: int = 5, most: int = 30) -> Callable[[random.Random], str]:
    return lambda rng: "".join(f"{line(rng)}\n" for _ in range(rng.randint(least, most)))


def _grouped(number: int, gap: str) -> str:
    return f"{number:,}".replace(",", gap)


def _row_of_numbers(rng: random.Random) -> str:
    """Ten numbers of one kind."""
    kinds: tuple[Callable[[], str], ...] = (
        lambda: str(rng.randint(0, 10 ** rng.randint(1, 7))),
        lambda: f"{rng.uniform(-1000, 1000):.{rng.randint(1, 6)}f}",
        lambda: f"{rng.gauss(0, 1):+.4e}",
        lambda: f"{rng.randint(0, 9999):04d}",
        lambda: f"{rng.randint(0, 255):3d}",
        lambda: _grouped(rng.randint(1000, 10**10), rng.choice((" ", ",", ".", "\u202f"))),
    )
    number, gap = rng.choice(kinds), rng.choice((" ", "  ", "\t", ", ", ",", ";", " | "))
    return gap.join(number() for _ in range(10))


def _hexdump(rng: random.Random) -> str:
    """Sixteen bytes as `xxd`, `hexdump -C` and `od -x` print them, and as code holds them."""
    data, at = (
        rng.randbytes(16) if rng.random() < 0.7 else bytes(rng.choices(range(0x20, 0x7F), k=16)),
        rng.getrandbits(24) & ~15,
    )
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data)
    return rng.choice(
        (
            f"{at:08x}: {data.hex(' ', 2)}  {text}",
            f"{at:08x}  {data[:8].hex(' ')}  {data[8:].hex(' ')}  |{text}|",
            f"{at:07o} {data.hex(' ', -2)}",
            ", ".join(f"0x{byte:02x}" for byte in data) + ",",
            " ".join(f"{byte:03d}" for byte in data),
            data.hex().upper(),
            data.hex(":"),
        )
    )


def _identifier(rng: random.Random) -> str:
    """A number or name that something was given."""
    digits = "".join(rng.choices("0123456789", k=rng.randint(8, 20)))
    letters = "".join(rng.choices("0123456789ABCDEFGHJKMNPQRSTVWXYZ", k=26))
    return rng.choice(
        (
            f"order {digits[:12]}",
            f"id={rng.getrandbits(62)}",
            f'{{"tweet_id": {rng.getrandbits(60)}, "user": {rng.getrandbits(31)}}}',
            f"ObjectId('{rng.randbytes(12).hex()}')",
            letters,
            f"arn:aws:iam::{rng.randrange(10**11, 10**12)}:role/reader-{digits[:6]}",
            f"arn:aws:ec2:eu-west-1:{rng.randrange(10**11, 10**12)}:instance/i-{rng.randbytes(8).hex()}",
            f"sha256:{rng.randbytes(32).hex()}",
            f"{rng.randbytes(20).hex()} refs/heads/release-{rng.randint(1, 30)}.{rng.randint(0, 9)}",
            f"SKU {letters[:3]}-{digits[:5]}-{letters[3:5]}",
            f"EAN {digits[:13]}",
            f"invoice no. {rng.randint(2015, 2026)}-{digits[:6]}",
            f"ticket PROJ-{digits[:5]}, build {digits[:9]}",
            f"doi:10.{rng.randint(1000, 9999)}/{letters[:4].lower()}.{digits[:7]}",
            f"ISBN 978-{digits[0]}-{digits[1:5]}-{digits[5:8]}0-{digits[0]}",
            f"trace={rng.randbytes(16).hex()} span={rng.randbytes(8).hex()}",
            f"0x{rng.getrandbits(64):016x} in frame {digits[:4]}",
            f"eth0 {rng.randbytes(6).hex(':')} fe80::{rng.randbytes(2).hex()}:{rng.randbytes(2).hex()}",
        )
    )


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(bytes=rng.randbytes(16), version=4))


def _moment(rng: random.Random) -> datetime:
    return datetime.fromtimestamp(rng.randint(946_684_800, 1_893_456_000), UTC)


def _timestamp(rng: random.Random) -> str:
    """A moment, in one of the ways that programs write it."""
    moment = _moment(rng)
    seconds = int(moment.timestamp())
    forms = (
        str(seconds),
        str(seconds * 1000 + rng.randrange(1000)),
        str(seconds * 10**6 + rng.randrange(10**6)),
        str(seconds * 10**9 + rng.randrange(10**9)),
        f"{seconds}.{rng.randrange(10**6):06d}",
        f'{{"ts": {seconds * 1000 + rng.randrange(1000)}, "dur": {rng.randint(1, 99999)}}}',
        moment.isoformat(),
        f"{moment:%Y-%m-%d %H:%M:%S},{rng.randrange(1000):03d}",
        f"{moment:%Y%m%dT%H%M%SZ}",
        f"{moment:%Y%m%d%H%M%S}",
        f"{moment:%d/%b/%Y:%H:%M:%S +0000}",
        f"{moment:%d.%m.%Y %H:%M} – {moment:%H:%M:%S}.{rng.randrange(1000):03d}",
        f"{moment:%m-%d %H:%M:%S}.{rng.randrange(1000):03d} {rng.randint(100, 30000):5d} {rng.randint(100, 30000):5d}",
    )
    return rng.choice(forms)


def _sql(rng: random.Random) -> str:
    """A line of a dump."""
    name = rng.choice(("orders", "items", "events", "stock"))
    values = [
        str(rng.randint(1, 10**6)),
        f"'{_uuid(rng)}'",
        f"'{_moment(rng):%Y-%m-%d %H:%M:%S}'",
        f"{rng.uniform(0, 9999):.2f}",
        rng.choice(("NULL", "TRUE", "''", f"'{rng.randbytes(8).hex()}'", f"x'{rng.randbytes(12).hex()}'")),
        str(rng.randint(10**9, 10**13)),
    ]
    if rng.random() < 0.5:
        return f"INSERT INTO `{name}` VALUES ({','.join(values)});"
    return "\t".join(value.strip("'").replace("NULL", "\\N") for value in values)


def _log(rng: random.Random) -> str:
    """A line that a server writes."""
    moment = _moment(rng)
    took, size, pid = rng.uniform(0.1, 9000), rng.randint(0, 10**8), rng.randint(1, 4_194_304)
    host = ".".join(str(rng.randint(1, 254)) for _ in range(4))
    small, nanos = pid % 60, rng.randrange(10**9)
    forms = (
        f'{host} - - [{moment:%d/%b/%Y:%H:%M:%S} +0000] "GET /v1/items/{size}?page={pid} HTTP/1.1" 200 {size} "-" "-"',
        f"{moment:%b %d %H:%M:%S} node-{small} kernel: [{took:12.6f}] pci 0000:{small:02d}:00.0: [mem 0x{size:08x}]",
        f"{moment:%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z stderr F I{moment:%m%d} {pid} sync.go:{small}] took {took:.3f}ms",
        json.dumps({"t": moment.isoformat(), "level": "info", "req": _uuid(rng), "ms": round(took, 3), "bytes": size}),
        f"{moment:%Y-%m-%d %H:%M:%S.%f} UTC [{pid}] LOG:  duration: {took:.3f} ms  statement: SELECT {size}",
        f"[{moment:%H:%M:%S}] epoch {small} step {pid}: loss {took / 1000:.4f} lr {took * 1e-8:.3e} tokens/s {size:,}",
        f"{pid:>7} {small:>3}.{pid % 9} {size:>9} {size // 3:>8} ?  Ssl  {moment:%H:%M} {pid % 400}:{small:02d} nginx",
    )
    return rng.choice(forms)


def _array(rng: random.Random) -> str:
    """How NumPy, PyTorch and R print numbers."""
    numbers = [rng.gauss(0, 10 ** rng.randint(0, 4)) for _ in range(6)]
    forms = (
        "array([" + ", ".join(f"{number:.8f}" for number in numbers) + "])",
        "[" + " ".join(f"{number:.4f}{number * 0.7:+.4f}j" for number in numbers) + "]",
        "array([" + ", ".join(f"{number:.3f}{-number:+.3e}j" for number in numbers) + "])",
        "tensor([[" + ", ".join(f"{number: .4f}" for number in numbers) + "],",
        "[" + " ".join(f"{number:.8e}" for number in numbers) + "]",
        "[[" + " ".join(f"{int(number):6d}" for number in numbers) + "]",
        "[1] " + " ".join(f"{number:.6f}" for number in numbers),
    )
    return rng.choice(forms)


def _place(rng: random.Random) -> str:
    """Coordinates, and the sums, versions and codes of letters and reports."""
    lat, lon = rng.uniform(-90, 90), rng.uniform(-180, 180)
    few, many = rng.randint(1, 30), rng.randint(1000, 9999)
    gap, unit = rng.choice((" ", ",", ".")), rng.choice(("€", "USD", "rows", "bytes", "people"))
    clock = f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}:{rng.randint(0, 59):02d},{rng.randrange(1000):03d}"
    forms = (
        f"lat={lat:+.7f} lon={lon:+.7f}",
        f"POINT({lon:.6f} {lat:.6f})",
        f'{{"type": "Point", "coordinates": [{lon:.8f}, {lat:.8f}]}}',
        f"geo:{lat:.6f},{lon:.6f}",
        f"M{abs(lon):.2f} {abs(lat):.2f}l{lat / 9:.3f}-{abs(lon) / 7:.3f}c{abs(lat):.3f},{lon:.3f} 0 0 1",
        f"Boston, MA {rng.randint(1000, 99999):05d}-{many}",
        f"{_grouped(rng.randint(10**6, 10**10), gap)} {unit}",
        f"v{few}.{few % 7}.{many}+{rng.randbytes(4).hex()}",
        f"linux-image-6.{few}.0-{few}-amd64_6.{few}.{many % 200}-1_amd64.deb",
        f"pages {few}-{many % 900 + 31}, vol. {few}({few % 12 + 1}), {rng.randint(1900, 2026)}",
        f"{few} of {many} ({rng.uniform(0, 100):.1f} %), p = {rng.random():.6f}, n = {many:,}",
        f"{clock} --> {clock[:8]},{rng.randrange(1000):03d}",
    )
    return rng.choice(forms)


def _spreadsheet(rng: random.Random) -> str:
    """A table of goods as CSV."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=rng.choice(",;\t"), lineterminator="\n")
    writer.writerow(["id", "name", "ean", "price", "stock", "updated", "share"])
    for number in range(rng.randint(5, 25)):
        price, stock = rng.uniform(1, 9999), rng.randint(0, 10**5)
        writer.writerow(
            [48_000 + number, f"Part {stock % 97}", rng.randint(10**12, 10**13 - 1), f"{price:.2f}", stock,
             _moment(rng).strftime("%Y-%m-%d"), f"{rng.random():.6f}"]
        )  # fmt: skip
    return file.getvalue()


GENERATED: dict[str, Callable[[random.Random], str]] = {
    "tables of numbers": _lines(_row_of_numbers),
    "hexdumps": _lines(_hexdump),
    "UUIDs": _lines(_uuid, 10, 40),
    "identifiers": _lines(_identifier),
    "timestamps": _lines(_timestamp),
    "SQL dumps": _lines(_sql),
    "servers' logs": _lines(_log),
    "arrays": _lines(_array),
    "places and sums": _lines(_place),
    "spreadsheets": _spreadsheet,
    **WRITTEN,
}
"""Kinds of text and data that are made up."""
