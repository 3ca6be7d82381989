"""What strangers cost the gateway in memory.

    python -m loadtests.benchmarks.keyless [--connections 500] [--rounds 1] [--tls]

Each row is a gateway of its own, at which so many connections without a valid key send at once, each as much as it
may just under every limit, or as much as the gateway takes. Peak resident memory above that before is what they cost.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median

import uvloop

from loadtests.tools.certificate import Authority
from loadtests.tools.open_streams import allow_files
from loadtests.tools.processes import Program, running
from loadtests.tools.targets import free_port
from training.studies.sections import table_head

MIB = 1024 * 1024
MAX_HEAD, MAX_FIELDS, MAX_BODY, MAX_OTHER_BODY = 32 * 1024, 100, 8 * MIB, 2 * MIB
# Below each limit by this much.
MARGIN = 512
PIPELINED = 64
# How long the strangers stay once they have sent what is taken.
STAY_S = 3.0
SLOW_TOKEN = "Authorization: Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.eyJpc3MiOiJhIn0.AAAA"


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", "Content-Type: application/json", *lines, ""]).encode()


def unfinished_head() -> bytes:
    """All the bytes that a head may have, none of its end."""
    begun = head("POST", "/v1/chat/completions", "Authorization: Bearer sk-signet-nobody") + b"X: "
    return begun + b"a" * (MAX_HEAD - MARGIN - len(begun))


def many_fields() -> bytes:
    """All the fields that a head may have: objects, rather than bytes."""
    fields = [f"X-{number}: {number}" for number in range(MAX_FIELDS - 10)]
    return head("POST", "/v1/chat/completions", *fields)


def body(path: str, size: int, *lines: str) -> bytes:
    return head("POST", path, f"Content-Length: {size - 1}", *lines) + b"\r\n" + b" " * (size - MARGIN)


def chunks(path: str) -> bytes:
    begun = head("POST", path, "Transfer-Encoding: chunked") + b"\r\n"
    return begun + b"1;" + b"x" * 15_000 + b"\r\na\r\n" + b"10000\r\n" + bytes(0x10000) + b"\r\n"


def pipelined() -> bytes:
    """Requests ahead of their answers; the first, a token's, waits for its issuer."""
    fields = [f"X-{number}: {number}" for number in range(MAX_FIELDS - 10)]
    return (head("GET", "/v1/models", SLOW_TOKEN, *fields) + b"\r\n") * PIPELINED


SENT: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "heads that do not end": unfinished_head,
    "heads of 95 fields that do not end": many_fields,
    "chats of 8 MiB, no key": lambda: body("/v1/chat/completions", MAX_BODY),
    "chats of 8 MiB, a wrong key": lambda: body("/v1/chat/completions", MAX_BODY, "X-Api-Key: sk-signet-nobody"),
    "moderations of 2 MiB, no key": lambda: body("/v1/moderations", MAX_OTHER_BODY),
    "changes of keys of 2 MiB, a wrong key": lambda: body("/admin/keys", MAX_OTHER_BODY, "X-Api-Key: sk-signet-x"),
    "a path that is none, 8 MiB": lambda: body("/nothing", MAX_BODY),
    "chunks with long extensions": lambda: chunks("/v1/chat/completions"),
    "chats of 8 MiB, tokens of a silent issuer": lambda: body("/v1/chat/completions", MAX_BODY, SLOW_TOKEN),
    "moderations of 2 MiB, such tokens": lambda: body("/v1/moderations", MAX_OTHER_BODY, SLOW_TOKEN),
    "64 requests ahead, such tokens": pipelined,
}


async def send_all(port: int, data: bytes, connections: int, tls: ssl.SSLContext | None) -> Counter[str]:
    """Send on all connections at once and stay; returns the statuses that came back."""
    statuses: Counter[str] = Counter()

    async def one() -> None:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
            answer = asyncio.ensure_future(reader.read(12))
            sending = asyncio.ensure_future(_send(writer, data))
            done, _ = await asyncio.wait({answer}, timeout=STAY_S)
            sending.cancel()
            answer.cancel()
            found = answer.result()[9:].decode() if answer in done and answer.exception() is None else ""
            statuses[found or ("closed" if done else "open")] += 1
            await asyncio.sleep(STAY_S if done else 0)
            writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(connections)))
    return statuses


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    view = memoryview(data)
    with suppress(OSError):
        for start in range(0, len(data), 65_536):
            writer.write(view[start : start + 65_536])
            await writer.drain()


async def _silent_issuer() -> asyncio.Server:
    """Takes connections and never answers."""

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        writer.close()

    return await asyncio.start_server(hold, "127.0.0.1", 0)


async def measure(name: str, connections: int, folder: Path, secure: bool) -> tuple[float, Counter[str]]:
    """MiB that `connections` strangers cost, and what they were told; `secure`: over TLS."""
    issuer = await _silent_issuer()
    issuer_port = issuer.sockets[0].getsockname()[1]
    port = free_port()
    env = {
        "SIGNET_HOME": str(folder),
        "SIGNET_IDENTITY__JWT__ISSUER": f"http://127.0.0.1:{issuer_port}",
        "SIGNET_IDENTITY__JWT__AUDIENCE": '["signet"]',
    }
    tls = None
    if secure:
        authority = Authority(folder)
        certificate, key = authority.issue("127.0.0.1")
        env |= {"SIGNET_GATEWAY__TLS__CERTIFICATE": str(certificate), "SIGNET_GATEWAY__TLS__KEY": str(key)}
        tls = ssl.create_default_context(cafile=str(authority.file))
        tls.check_hostname = False
    command = [sys.executable, "-m", "signet", "gateway", "--port", str(port), "--engine-url", "http://127.0.0.1:9"]
    with running("gateway", command, folder, env=env) as program:
        await asyncio.to_thread(program.wait_said, "Gateway listens")
        # What is loaded at the first request, and the first errors, is not the strangers'.
        for warm in SENT:
            await send_all_briefly(port, SENT[warm]()[:2000], tls)
        before = program.rss_bytes()
        _forget_peak(program)
        statuses = await send_all(port, SENT[name](), connections, tls)
        cost = (program.peak_rss_bytes() - before) / MIB
    issuer.close()
    return cost, statuses


async def send_all_briefly(port: int, data: bytes, tls: ssl.SSLContext | None) -> None:
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        writer.write(data)
        await asyncio.sleep(0.1)
        writer.transport.abort()


def _forget_peak(program: Program) -> None:
    """Linux: 5 resets the peak of resident memory to what it is now (proc(5))."""
    for pid in (program.process.pid, *program.children()):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="", help="Rows whose name holds this.")
    parser.add_argument("--tls", action="store_true", help="Over TLS.")
    arguments = parser.parse_args()
    allow_files()
    print(*table_head(f"{arguments.connections} connections without a key send", "MiB", "are told"), sep="\n")
    for name in SENT:
        if arguments.only not in name:
            continue
        costs: list[float] = []
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as folder:
                cost, statuses = uvloop.run(measure(name, arguments.connections, Path(folder), arguments.tls))
            costs.append(cost)
        told = ", ".join(f"{status} × {count}" for status, count in statuses.most_common())
        print(f"| {name} | {median(costs):.0f} | {told} |", flush=True)


if __name__ == "__main__":
    main()
