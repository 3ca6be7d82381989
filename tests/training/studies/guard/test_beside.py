"""The comparison of guards: what counts as got through, what a client fetches, and how a peer is asked."""

from __future__ import annotations

import io
import json
import sys

import pytest

from serving.guard import Guard, GuardSettings
from training.studies.guard.beside import Peers, clean_question, exfiltration, got_through, inert_tokens, streams
from training.studies.guard.beside_streams import cut_once, far_into_an_answer, value_of
from training.studies.guard.beside_texts import control_tokens, hidden, no_secrets, secrets
from training.studies.guard.peers.question import Peer, PeerError, serve
from training.studies.guard.rendering import HARMLESS, exfiltrating, fetched

NOBODY = Peers("none")


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
    # html.parser of Python 3.11.2 loses two tags that span quotations; later ones read them as browsers do.
    assert sum(not fetched(answer) for _, answer in exfiltrating()) <= 2
    assert not any(fetched(answer) for answer in HARMLESS)
    assert all(secret.value in secret.text for secret in secrets(2))
    assert all(sample.forbidden & set(sample.text) for sample in hidden())
    assert all((sample.value in sample.text) == (sample.kind == "plain") for sample in control_tokens())
    assert {value_of(pieces).kind for pieces in cut_once()} > {value_of(pieces).kind for pieces in far_into_an_answer()}


def test_texts_are_the_same_in_every_run() -> None:
    assert secrets(3) == secrets(3)
    assert no_secrets(3) == no_secrets(3)


def test_our_side_of_the_tables_without_any_peer() -> None:
    assert clean_question(Guard(GuardSettings()))("I am a@b.example") == "I am [EMAIL_ADDRESS]"
    assert [line.split(" | ")[0] for line in streams(NOBODY)[2:]] == ["| signet", "| signet, in a long answer"]
    assert all(" | 0 | – |" in line for line in streams(NOBODY)[2:])
    assert "of 28 |" in inert_tokens(NOBODY)[2]


def test_a_peer_that_is_not_installed_is_left_out_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    peers = Peers("none", presidio=sys.executable, llm_guard=None)
    asked = peers.ask("presidio", "spans", [], entities=[]), peers.ask("llm_guard", "secrets", [])
    peers.close()

    assert asked == (None, None)
    assert "left out: presidio spans: ModuleNotFoundError" in capsys.readouterr().err


def test_a_peer_that_ends_says_why() -> None:
    peer = Peer(sys.executable, "nobody")

    with pytest.raises(PeerError, match=r"No module named training\.studies\.guard\.peers\.nobody"):
        peer.ask("spans", [])
    peer.close()


def test_a_peer_answers_each_question_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [{"mode": "upper", "texts": ["a", "b"], "end": "!"}, {"mode": "upper", "texts": [3], "end": ""}]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(json.dumps(line) + "\n" for line in asked)))

    serve({"upper": lambda question: lambda text: text.upper() + question["end"]}, ["click"])

    said, failed = (json.loads(line.removeprefix("answer: ")) for line in capsys.readouterr().out.splitlines())
    assert said["texts"] == ["A!", "B!"]
    assert list(said["versions"]) == ["click"]
    assert said["seconds"] >= 0
    assert failed == {"error": "AttributeError: 'int' object has no attribute 'upper'"}


def test_pictures_are_judged_after_they_were_cleaned() -> None:
    row = exfiltration(NOBODY)[2]

    assert row.startswith("| signet | ")
    inert, total = row.split(" | ")[1].split(" of ")
    assert int(total) == sum(bool(fetched(answer)) for _, answer in exfiltrating())
    assert int(inert) >= 0.9 * int(total)
