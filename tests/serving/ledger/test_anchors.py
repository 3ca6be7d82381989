"""Anchors that a gateway writes by itself: signed, sent out, and worth what they say when the ledger is verified."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from serving.database import open_engine
from serving.ledger import AnchorPublisher, Ledger, LedgerSettings
from serving.ledger.anchors import read_anchors
from serving.ledger.audit import audit
from serving.ledger.links import chains
from serving.ledger.record import requests
from serving.ledger.settings import AnchorSettings
from serving.ledger.verify import Report, verify
from serving.provenance.receipts import ReceiptIssuer, ReceiptKeys
from tests.support.ledgers import a_record, rows
from tests.support.running import wait_until


@pytest.fixture
def keys(tmp_path: Path) -> ReceiptKeys:
    return ReceiptKeys.open(tmp_path / "receipt-keys.json", create=True)


def live(
    url: str, settings: AnchorSettings, keys: ReceiptKeys | None, then: Callable[[AnchorPublisher], Awaitable[object]]
) -> None:
    """A ledger's life: three records, an anchor after each, then what is asked for."""

    async def run() -> None:
        ledger = Ledger(url, LedgerSettings(anchors=settings))
        ledger.start()
        publisher = AnchorPublisher(ledger, lambda: None if keys is None else ReceiptIssuer(keys, "signet"))
        for _ in range(3):
            await ledger.commit(a_record())
            await publisher.publish()
        await then(publisher)
        await asyncio.to_thread(ledger.stop)

    asyncio.run(run())


async def nothing(_: AnchorPublisher) -> None:
    pass


def check(url: str, lines: list[str], keys: ReceiptKeys | None) -> Report:
    known = {} if keys is None else keys.public()
    expected = {(head.chain, head.seq): head.hash for head in read_anchors(lines, known)}
    engine = open_engine(url)
    report = verify(engine, expected)
    engine.dispose()
    return report


@pytest.mark.parametrize("signed", [True, False])
def test_what_was_cut_off_after_an_anchor_went_out_is_missed(
    url: str, tmp_path: Path, keys: ReceiptKeys, signed: bool
) -> None:
    file, signers = tmp_path / "anchors", keys if signed else None
    live(url, AnchorSettings(file=file), signers, nothing)
    lines = file.read_text().splitlines()

    report = check(url, lines, signers)
    assert (report.findings, report.num_expected) == ([], 3)
    assert all(("." in line) is signed for line in lines)

    engine = open_engine(url)
    with engine.begin() as connection:  # everything after the second record, the head corrected
        last = connection.execute(select(requests).where(requests.c.seq == 1)).one()
        connection.execute(delete(requests).where(requests.c.seq > 1))
        connection.execute(delete(audit))
        connection.execute(update(chains).values(seq=1, head=last.hash))
    engine.dispose()
    assert check(url, [], signers).findings == []
    assert len(check(url, lines, signers).findings) == 3


def test_later_anchors_hold_what_grew_only(url: str, tmp_path: Path, keys: ReceiptKeys) -> None:
    live(url, AnchorSettings(file=tmp_path / "anchors"), keys, nothing)
    live(url, AnchorSettings(file=tmp_path / "anchors"), keys, nothing)

    anchored = [len(json.loads(row["details"])) for row in rows(url, audit)]

    assert anchored == [1, 1, 1, 2, 1, 1]
    assert check(url, (tmp_path / "anchors").read_text().splitlines(), keys).findings == []


def test_anchors_are_posted(url: str, keys: ReceiptKeys, receiver: Receiver) -> None:
    live(url, AnchorSettings(url=receiver.url), keys, nothing)  # type: ignore[arg-type]

    assert receiver.types == ["application/jose"] * 3
    assert check(url, receiver.bodies, keys).num_expected == 3


def test_how_old_the_newest_anchor_is_can_be_asked(url: str, tmp_path: Path, keys: ReceiptKeys) -> None:
    ages = []

    async def ask(publisher: AnchorPublisher) -> None:
        publisher.published_at -= 100
        ages.append(publisher.age_s)
        await publisher.publish()
        ages.append(publisher.age_s)

    live(url, AnchorSettings(file=tmp_path / "anchors"), keys, ask)
    assert ages[0] >= 100 > ages[1]

    live(url, AnchorSettings(), keys, ask)
    assert all(map(math.isnan, ages[2:])), "none are wanted"


def test_a_receiver_that_is_down_is_told_and_tried_again(
    url: str, tmp_path: Path, keys: ReceiptKeys, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "http://127.0.0.1:1/?token=s3cret"
    outcomes = []

    async def again(publisher: AnchorPublisher) -> None:
        outcomes.append((await publisher.publish(), publisher.published_at, publisher.failures))
        assert publisher.age_s > 0

    live(url, AnchorSettings(url=secret, file=tmp_path / "anchors"), keys, again)  # type: ignore[arg-type]

    assert outcomes == [(False, 0.0, {"ledger": 0, "file": 0, "url": 4})]
    assert len((tmp_path / "anchors").read_text().splitlines()) == 4, "the file has them all the same"
    assert "cannot be sent to ledger.anchors.url" in caplog.text
    assert "s3cret" not in caplog.text


def test_anchors_are_written_on_a_timer(url: str, tmp_path: Path, keys: ReceiptKeys) -> None:
    file = tmp_path / "anchors"

    async def wait(publisher: AnchorPublisher) -> None:
        publisher.published_at = 0.0
        publisher.start()
        await asyncio.to_thread(wait_until, lambda: len(file.read_text().splitlines()) > 3, 20, "a fourth anchor")
        await publisher.stop()

    live(url, AnchorSettings(file=file, interval_s=1), keys, wait)


@pytest.mark.parametrize("line", ["nonsense", "a.b.c", "chain_1:x:00", "chain_1:1:00"])
def test_a_line_that_is_no_anchor_is_named(line: str, keys: ReceiptKeys) -> None:
    with pytest.raises(ValueError, match="line 2 is"):
        list(read_anchors(["", line], keys.public()))


def test_an_anchor_that_another_key_signed_is_refused(url: str, tmp_path: Path, keys: ReceiptKeys) -> None:
    live(url, AnchorSettings(file=tmp_path / "anchors"), keys, nothing)
    others = ReceiptKeys.open(tmp_path / "others.json", create=True)

    with pytest.raises(ValueError, match="line 1 is signed by a key that is not among the issuer's"):
        list(read_anchors((tmp_path / "anchors").read_text().splitlines(), others.public()))


def test_a_receipt_is_no_anchor(keys: ReceiptKeys) -> None:
    line = keys.current().signer.sign(b'{"iss": "signet", "iat": 1, "anchor": "chain_1:1:' + b"00" * 32 + b'"}')

    with pytest.raises(ValueError, match="another type"):
        list(read_anchors([line], keys.public()))


class Receiver:
    """Takes what is posted."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.types: list[str] = []
        kept = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                kept.bodies.append(self.rfile.read(int(self.headers["content-length"])).decode())
                kept.types.append(self.headers["content-type"])
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/anchors"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()
