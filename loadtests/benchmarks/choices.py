"""The measurements behind docs/decisions/003: ASGI server, HTTP client, JSON codec.

    python -m loadtests.benchmarks.choices [--rounds 5] [--seconds 2] [--out FILE.md]

Servers and clients run as bare pass-throughs in front of the stand-in engine, in one interleaved run of the
benchmark's workloads; codecs are timed in this process, best of several repeats.
"""

from __future__ import annotations

import json
import sys
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
import orjson

from loadtests.benchmarks.gateway import run_bench
from loadtests.tools.answers import StreamAsked, plain_body, stream_response
from loadtests.tools.client import chat_body
from loadtests.tools.figures import spread
from loadtests.tools.prompts import MEDIUM
from loadtests.tools.report import write_report
from loadtests.tools.targets import Factory, granian, pass_through

STACKS: dict[str, Factory] = {
    "uvicorn + pooled httptools": pass_through("asgi_pooled", "uvicorn + pooled httptools"),
    "granian + pooled httptools": granian("asgi_pooled", "granian + pooled httptools"),
    "uvicorn + aiohttp": pass_through("asgi_aiohttp", "uvicorn + aiohttp"),
    "uvicorn + httpx": pass_through("asgi_httpx", "uvicorn + httpx"),
}

_REPEATS, _LOOPS = 7, 5000


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    index: int
    delta: _Delta
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    """The fields of a streamed event that a gateway reads; decoding skips the others."""

    choices: list[_Choice]
    usage: dict[str, Any] | None = None


Codec = tuple[Callable[[bytes], Any], Callable[[Any], object]]


def codecs() -> dict[str, Codec]:
    decoder, encoder = msgspec.json.Decoder(), msgspec.json.Encoder()
    return {
        "json": (json.loads, lambda value: json.dumps(value, separators=(",", ":")).encode()),
        "orjson": (orjson.loads, orjson.dumps),
        "msgspec": (decoder.decode, encoder.encode),
    }


def microseconds(call: Callable[[], object]) -> float:
    """The best of several repeats: what the code costs when nothing else has the core."""
    return spread(timeit.repeat(call, number=_LOOPS, repeat=_REPEATS))[0] / _LOOPS * 1e6


def codec_rows() -> list[str]:
    """Decode and encode, in microseconds, of the three things a gateway handles."""
    event = stream_response(StreamAsked("standin", "chat", 8)).rest[0]
    samples = {
        "request": json.dumps(chat_body(64, prompt=" ".join(MEDIUM))).encode(),
        "answer": plain_body("standin", "chat"),
        "stream event": event[event.index(b"{") : event.rindex(b"}") + 1],
    }
    columns = [f"{name}, {len(sample)} B" for name, sample in samples.items()]
    rows = ["| decode / encode, µs | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for codec, (decode, encode) in codecs().items():
        rows.append(
            f"| {codec} | " + " | ".join(_codec_cell(decode, encode, sample) for sample in samples.values()) + " |"
        )
    typed = msgspec.json.Decoder(_Chunk)
    cost = microseconds(lambda: typed.decode(samples["stream event"]))
    rows.append(f"| msgspec, only the fields needed | – | – | {cost:.2f} / – |")
    return rows


def _codec_cell(decode: Callable[[bytes], Any], encode: Callable[[Any], object], sample: bytes) -> str:
    value = decode(sample)
    return f"{microseconds(lambda: decode(sample)):.2f} / {microseconds(lambda: encode(value)):.2f}"


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=2.0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the tables here; JSON beside it.")
def main(rounds: int, seconds: float, out: Path | None) -> None:
    """Measure the servers, the clients and the codecs that the gateway could be built on."""
    command = "python -m loadtests.benchmarks.choices " + " ".join(sys.argv[1:])
    report = run_bench(STACKS, rounds, seconds, command.strip())
    text = "\n".join([report.markdown("Servers, clients and codecs"), "## JSON", "", *codec_rows(), ""])
    click.echo(text)
    if out is not None:
        write_report(report, out)
        out.write_text(text)


if __name__ == "__main__":
    main()
