"""What all connections together may make the server hold, and how much of that is one holder's."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from serving.http.buffers import Buffers
from tests.serving.http.served import HOST, Served, answer, get, post, read_all, serving
from tests.support.running import wait_until

MIB = 1024 * 1024
# Of 1 MiB, those who are not known may have 64 KiB and one holder half.
STRANGE, LARGE = 40_000, 300_000


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(max_body_bytes=2 * MIB, max_buffered_bytes=MIB) as running:
        yield running
        running.app.go_on.set()
        wait_until(lambda: running.server.num_connections == 0, 5, "all connections are closed")
        # The application of one that has gone returns a moment later.
        wait_until(lambda: running.server.buffers.held == 0, 5, "nothing is held")


@pytest.fixture
def clients(served: Served) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def holds(served: Served, at_least: int) -> None:
    wait_until(lambda: served.server.buffers.held >= at_least, 5, f"{at_least} bytes are held")


def sent(clients: ExitStack, served: Served, data: bytes) -> socket.socket:
    client = clients.enter_context(served.connect())
    client.sendall(data)
    return client


def refused(client: socket.socket) -> bool:
    status, headers, body = answer(client)
    assert (status, json.loads(body)["error"]["code"]) == (503, "buffers_full")
    return "retry-after" in headers


def test_shares() -> None:
    buffers = Buffers(1600)

    assert buffers.hold(None, 100)
    assert not buffers.hold(None, 1)
    assert buffers.hold("a", 800)
    assert not buffers.hold("a", 1)
    assert buffers.hold("b", 700)
    assert not buffers.hold("c", 1)
    buffers.hand_over("b", 60)
    buffers.release(None, 40)
    buffers.release("a", 800)
    assert buffers.held == 760
    assert buffers.hold("b", 40)
    buffers.release("b", 800)
    assert buffers.held == 0


async def test_who_waits_longest_comes_first_and_a_full_share_holds_up_no_other() -> None:
    buffers = Buffers(1600)
    assert buffers.hold("a", 700)
    come: list[str] = []

    async def wait(name: str, size: int) -> None:
        await buffers.wait(name[0], size)
        come.append(name)

    waiting = [asyncio.ensure_future(wait(name, size)) for name, size in (("a1", 200), ("b1", 800), ("c1", 300))]
    waiting += [asyncio.ensure_future(wait("d1", 50))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert come == ["b1"]  # of the rest there is room for the last, but not for the one before it

    waiting[2].cancel()
    await asyncio.wait([waiting[2]])
    buffers.release("a", 700)
    await asyncio.gather(waiting[0], waiting[3])
    assert come == ["b1", "a1", "d1"]
    assert buffers.held == 1050


async def test_who_stops_waiting_holds_nothing() -> None:
    buffers = Buffers(1600)
    assert buffers.hold("a", 800)
    waiting = asyncio.ensure_future(buffers.wait("a", 100))
    await asyncio.sleep(0)
    buffers.release("a", 800)  # it is let in, and leaves in the same moment
    waiting.cancel()
    await asyncio.wait([waiting])
    assert buffers.held == 0


def test_what_nobody_has_vouched_for_is_bounded_and_costs_others_nothing(served: Served, clients: ExitStack) -> None:
    first = sent(clients, served, post(b"x" * STRANGE, "/late"))
    holds(served, STRANGE)

    assert refused(sent(clients, served, post(b"x" * STRANGE, "/late")))
    assert served.refused["buffers_full"] == 1
    known = sent(clients, served, post(b"x" * STRANGE, "/", "X-Api-Key: a"))
    assert len(json.loads(answer(known)[2])["body"]) == STRANGE
    small = sent(clients, served, post(b"x" * 1000))
    assert answer(small)[0] == 200
    served.app.go_on.set()
    assert len(json.loads(answer(first)[2])["body"]) == STRANGE


def test_of_a_body_that_nobody_has_asked_for_little_is_read(served: Served, clients: ExitStack) -> None:
    """What of it has come with the head cannot be sent back; the rest stays in the network."""
    client = sent(clients, served, post(b"", "/late").replace(b"Length: 0", b"Length: 60000") + b"x" * 20_000)
    holds(served, 20_000)
    client.sendall(b"x" * 40_000)
    assert answer(sent(clients, served, get()))[0] == 200
    assert served.server.buffers.held < 40_000

    served.app.go_on.set()
    assert len(json.loads(answer(client)[2])["body"]) == 60_000


def test_one_holder_has_half_at_the_most(served: Served, clients: ExitStack) -> None:
    sent(clients, served, post(b"x" * LARGE, "/slow", "X-Api-Key: a"))
    holds(served, LARGE)

    assert refused(sent(clients, served, post(b"x" * LARGE, "/slow", "X-Api-Key: a")))
    other = sent(clients, served, post(b"x" * LARGE, "/", "X-Api-Key: b"))
    assert answer(other)[0] == 200


def test_heads_that_do_not_end_are_bounded(served: Served, clients: ExitStack) -> None:
    begun = b"GET / HTTP/1.1\r\n" + HOST + b"X: "
    held = [sent(clients, served, begun + b"a" * 30_000) for _ in range(2)]
    holds(served, 60_000)

    assert refused(sent(clients, served, begun + b"a" * 30_000))
    slow = sent(clients, served, begun + b"a" * 1000)
    slow.sendall(b"\r\n\r\n")
    assert answer(slow)[0] == 200
    held[0].sendall(b"\r\n\r\n")
    assert answer(held[0])[0] == 200


def test_requests_ahead_of_their_answers_are_bounded(served: Served, clients: ExitStack) -> None:
    """Small ones too: each is many objects."""
    fields = [f"X-{number}: 1" for number in range(90)]
    ahead = sent(clients, served, post(b"x", "/late") + get("/", *fields) * 20)
    wait_until(lambda: bool(served.refused), 5, "they are refused")

    served.app.go_on.set()
    received = read_all(ahead)
    assert received.count(b"HTTP/1.1 503") == 1
    assert 1 < received.count(b"HTTP/1.1 200") < 6


@pytest.mark.parametrize("path", ["/hang", "/late", "/crash", "/unread", "/cut", "/stream", "/"])
def test_whatever_becomes_of_a_request_its_bytes_are_given_back(served: Served, clients: ExitStack, path: str) -> None:
    client = sent(clients, served, post(b"x" * STRANGE, path))
    wait_until(lambda: bool(served.app.seen), 5, "it is under way")
    client.close()
    served.app.go_on.set()
    wait_until(lambda: served.server.buffers.held == 0, 5, "all is given back")


def test_a_drain_gives_back_what_it_cancels(served: Served, clients: ExitStack) -> None:
    sent(clients, served, post(b"x" * STRANGE, "/hang", "X-Api-Key: a"))
    holds(served, STRANGE)
    assert served.call(served.server.drain(0.05)) is False
    assert served.server.buffers.held == 0
