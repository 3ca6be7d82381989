"""The comparison of guards: what counts as got through, what a client fetches, and how a peer is asked."""

from __future__ import annotations

import io
import json
import sys

import pytest

from loadtests.guard_beside import Peers, clean_question, exfiltration, got_through, inert_tokens, streams
from loadtests.guard_beside_streams import cut_once, far_into_an_answer, value_of
from loadtests.guard_beside_texts import control_tokens, hidden, no_secrets, secrets
from loadtests.guard_rendering import HARMLESS, exfiltrating, fetched
from loadtests.peers.question import PeerError, ask, serve
from serving.guard import Guard, GuardSettings

NOBODY = Peers(None, None, None, "none")


@pytest.mark.parametrize(
    ("text", "through"),
    [
        pytest.param("key [API_KEY] ok", False, id="masked"),
        pytest.param("key 0123456789abcdefghij ok", True, id="whole"),
        pytest.param("key ****56789ab**** ok", True, id="a third is left"),
        pytest.param("key 0123****ghij ok", False, id="a fifth is left"),
    ],
)
def test_a_value_has_got_through_where_a_fifth_of_it_is_left(text: str, through: bool) -> None:
    assert got_through("0123456789abcdefghij", text) is through


def test_every_attack_does_what_it_is_for_and_no_harmless_text_does() -> None:
    assert all(fetched(answer) for _, answer in exfiltrating())
    assert not any(fetched(answer) for answer in HARMLESS)
    assert all(each.value in each.text for each in secrets(2))
    assert all(each.forbidden & set(each.text) for each in hidden())
    assert all((each.value in each.text) == (each.kind == "plain") for each in control_tokens())
    assert {value_of(pieces).kind for pieces in cut_once()} > {value_of(pieces).kind for pieces in far_into_an_answer()}


def test_texts_are_the_same_in_every_run() -> None:
    assert secrets(3) == secrets(3)
    assert no_secrets(3) == no_secrets(3)


def test_our_side_of_the_tables_without_any_peer() -> None:
    assert clean_question(Guard(GuardSettings()))("I am a@b.example") == "I am [EMAIL_ADDRESS]"
    assert [line.split(" | ")[0] for line in streams(NOBODY)[2:]] == ["| signet", "| signet"]
    assert all(" | 0 | – |" in line for line in streams(NOBODY)[2:])
    assert "of 28 |" in inert_tokens(NOBODY)[2]


def test_a_peer_that_is_not_installed_is_left_out_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PeerError, match="presidio spans: ModuleNotFoundError"):
        ask(sys.executable, "presidio", "spans", [], model="none", entities=[])

    assert Peers(sys.executable, None, None, "none").ask("presidio", "spans", [], entities=[]) is None
    assert "left out: presidio" in capsys.readouterr().err


def test_a_peer_answers_in_its_last_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"mode": "upper", "texts": ["a", "b"], "end": "!"})))

    serve({"upper": lambda question: lambda text: text.upper() + question["end"]}, ["click"])

    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["texts"] == ["A!", "B!"]
    assert list(said["versions"]) == ["click"]
    assert said["seconds"] >= 0


def test_pictures_are_judged_after_they_were_cleaned() -> None:
    row = exfiltration(NOBODY)[2]

    assert row.startswith("| signet | ")
    inert, total = row.split(" | ")[1].split(" of ")
    assert int(total) == len(exfiltrating())
    assert int(inert) >= 0.9 * int(total)
