from __future__ import annotations

from typing import Any

import pytest

from serving.gateway.answer.outgoing import Outgoing, joined
from serving.gateway.errors import EngineFailed, LedgerDown, Overloaded
from serving.gateway.records import Mark
from tests.serving.gateway.answer.ends import Recorded, Sent
from tests.support.questions import request


def outgoing(sent: Sent, settlement: Recorded | None = None, **known: Any) -> Outgoing:
    return Outgoing(request(**known), settlement or Recorded(), sent, sent)  # type: ignore[arg-type]


async def test_a_whole_answer_is_one_status_and_one_body() -> None:
    sent = Sent()

    await outgoing(sent, request_id="req_1").whole(b"{}")

    assert (sent.status, sent.bodies) == (200, [b"{}"])
    assert sent.headers[b"content-type"] == b"application/json"
    assert sent.headers[b"content-length"] == b"2"
    assert sent.headers[b"x-request-id"] == b"req_1"


async def test_a_stream_starts_once_and_ends_once() -> None:
    sent = Sent()
    out = outgoing(sent)
    assert not out.started

    await out.piece(b"one")
    await out.piece(b"two")
    await out.last(b"end")

    assert out.started
    assert sent.headers[b"content-type"].startswith(b"text/event-stream")
    assert sent.bodies == [b"one", b"two", b"end"]
    assert [message.get("more_body", False) for message in sent.messages[1:]] == [True, True, False]


async def test_headers_say_what_was_left_out_and_how_it_is_marked() -> None:
    sent = Sent()

    await outgoing(sent, ignored_fields=("seed", "user"), engine=object(), mark=Mark("kgw", "mk1-0")).whole(b"{}")

    assert sent.headers[b"x-signet-mark"] == b"kgw;key=mk1-0"
    assert b"seed" in sent.headers[b"x-signet-ignored-fields"]


async def test_an_answer_that_no_engine_gave_has_no_mark() -> None:
    sent = Sent()

    await outgoing(sent).whole(b"{}")

    assert b"x-signet-mark" not in sent.headers


async def test_an_error_before_the_answer_has_a_status_of_its_own() -> None:
    sent = Sent()

    await outgoing(sent).error(Overloaded("full", headers=((b"retry-after", b"3"),)))

    assert sent.status == 503
    assert sent.headers[b"retry-after"] == b"3"
    assert b'"message":"full"' in sent.bodies[0]


async def test_an_error_within_a_stream_is_its_last_event() -> None:
    sent = Sent()
    out = outgoing(sent)
    await out.piece(b"one")

    await out.error(EngineFailed("gone"), unsent=b"what was held\n\n")

    assert sent.status == 200
    assert sent.bodies[1].startswith(b"what was held\n\ndata: ")
    assert b"gone" in sent.bodies[1]
    assert not sent.messages[-1].get("more_body", False)


async def test_what_is_not_on_record_is_not_released() -> None:
    recorded, down = Recorded(), Recorded(is_down=True)

    await outgoing(Sent(), recorded).commit()
    with pytest.raises(LedgerDown) as refused:
        await outgoing(Sent(), down).commit()

    assert recorded.commits == 1
    assert "no disk" not in refused.value.message


def test_events_are_parted_by_blank_lines() -> None:
    assert joined([b"data: 1", b": comment"]) == b"data: 1\n\n: comment\n\n"


async def test_a_piece_is_written_without_waiting_once_the_stream_has_begun_and_the_client_reads() -> None:
    sent = Sent()
    answer = outgoing(sent)

    before = answer.may_write
    await answer.piece(b"one")
    begun = answer.may_write
    answer.write(b"two")
    sent.may_write = False

    assert (before, begun, answer.may_write) == (False, True, False)
    assert (sent.bodies, sent.written) == ([b"one"], [b"two"])
