"""The pool keeps its budget, says who gave no answer, and never holds the event loop up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from serving.guard.classifiers import ClassifierPool, ClassifiersSettings
from serving.guard.classifiers.pool import shorten


class Words:
    """Scores by the length of a text; waits or fails where it is told to."""

    categories = ("jailbreak",)
    thresholds: Mapping[str, float] = {"jailbreak": 0.5}

    def __init__(self, name: str = "attack", work: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.seen: list[str] = []
        self._work = work

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        self.seen += texts
        self._work()
        return [{"jailbreak": min(len(text) / 10, 1.0)} for text in texts]


@contextmanager
def pool_of(*classifiers: Words, **settings: object) -> Iterator[tuple[ClassifierPool, list[tuple[str, str]]]]:
    outcomes: list[tuple[str, str]] = []
    made = ClassifierPool(
        classifiers,
        ClassifiersSettings.model_validate(settings),
        lambda name, outcome, seconds: outcomes.append((name, outcome)),
    )
    yield made, outcomes
    made.close()


async def test_scores_and_flags_by_the_threshold() -> None:
    with pool_of(Words()) as (pool, outcomes):
        low, high = await pool.scores_of(["abc", "abcdefgh"], ["attack"])

    assert (low.scores, low.flagged) == ({"jailbreak": 0.3}, frozenset())
    assert (high.scores, high.flagged) == ({"jailbreak": 0.8}, {"jailbreak"})
    assert outcomes == [("attack", "done")]


async def test_very_many_texts_are_scored_in_batches_and_given_up_when_their_time_is_over() -> None:
    with pool_of(words := Words()) as (pool, _):
        verdicts = await pool.scores_of([f"{number}" * 3 for number in range(600)], ["attack"])
    assert [found.scores["jailbreak"] for found in verdicts[8:12]] == [0.3, 0.3, 0.6, 0.6]
    assert len(words.seen) == 600

    with pool_of(slow := Words(work=lambda: time.sleep(0.05)), budget_ms=20) as (pool, outcomes):
        verdicts = await pool.scores_of([str(number) for number in range(3000)], ["attack"])
        assert {found.failed["attack"] for found in verdicts} == {"timeout"}
        await asyncio.to_thread(pool.close)
    assert len(slow.seen) < 3000
    assert outcomes == [("attack", "timeout")]


async def test_a_threshold_of_the_settings_wins() -> None:
    with pool_of(Words(), attack={"threshold": 0.9}) as (pool, _):
        verdicts = await pool.scores("abcdefgh", ["attack"])

    assert verdicts.flagged == frozenset()


@pytest.mark.parametrize(("on_failure", "closed"), [("open", False), ("closed", True)])
async def test_one_that_takes_too_long_fails_as_it_is_set_to(on_failure: str, closed: bool) -> None:
    release = threading.Event()
    with pool_of(Words(work=lambda: release.wait(5) and None), budget_ms=20, attack={"on_failure": on_failure}) as (
        pool,
        outcomes,
    ):
        verdicts = await pool.scores("abcdefgh", ["attack"])
        release.set()

    assert verdicts.failed == {"attack": "timeout"}
    assert verdicts.scores == {}
    assert verdicts.flagged == frozenset()
    assert verdicts.closed is closed
    assert outcomes == [("attack", "timeout")]


async def test_one_that_fails_leaves_the_others_and_no_text_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("the secret text")

    with pool_of(Words("attack", fail), Words("toxicity")) as (pool, outcomes):
        verdicts = await pool.scores("abcdefgh", ["attack", "toxicity"])

    assert verdicts.failed == {"attack": "error"}
    assert verdicts.scores == {"jailbreak": 0.8}
    assert sorted(outcomes) == [("attack", "error"), ("toxicity", "done")]
    assert "secret" not in caplog.text


async def test_the_event_loop_goes_on_while_a_classifier_works() -> None:
    release = threading.Event()
    with pool_of(Words(work=lambda: release.wait(5) and None), budget_ms=5000) as (pool, _):
        asking = asyncio.create_task(pool.scores("abc", ["attack"]))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not asking.done()
        release.set()
        await asking


async def test_a_full_queue_answers_at_once() -> None:
    release = threading.Event()
    with pool_of(Words(work=lambda: release.wait(5) and None), budget_ms=5000) as (pool, _):
        waiting = [asyncio.create_task(pool.scores("abc", ["attack"])) for _ in range(256)]
        await asyncio.sleep(0)
        verdicts = await asyncio.wait_for(pool.scores("abc", ["attack"]), 1)
        release.set()
        await asyncio.gather(*waiting)

    assert verdicts.failed == {"attack": "timeout"}


async def test_perspective_is_asked_with_toxicity_and_stops_nothing() -> None:
    def fail() -> None:
        raise OSError

    voice = Words("perspective", fail)
    with pool_of(Words("toxicity"), voice, toxicity={"on_failure": "closed"}) as (pool, _):
        verdicts = await pool.scores("abc", ["toxicity"])

    assert voice.seen == ["abc"]
    assert verdicts.failed == {"perspective": "error"}
    assert verdicts.closed is False


async def test_of_a_long_text_beginning_and_end_are_read() -> None:
    words = Words()
    with pool_of(words, max_chars=1000) as (pool, _):
        await pool.scores("a" * 5000 + "b" * 5000, ["attack"])

    assert words.seen == ["a" * 500 + "\n" + "b" * 500]
    assert shorten("short", 1000) == "short"


async def test_a_text_is_scored_once_and_a_failure_is_not_remembered() -> None:
    fails = [True]

    def work() -> None:
        if fails.pop() if fails else False:
            raise OSError

    words = Words(work=work)
    with pool_of(words) as (pool, _):
        first = await pool.scores_of(["one", "two"], ["attack"])
        second = await pool.scores_of(["one", "two", "one", "three"], ["attack"])
        third = await pool.scores_of(["two", "three"], ["attack"])

    assert [found.failed for found in first] == [{"attack": "error"}] * 2
    assert [found.scores["jailbreak"] for found in second] == [0.3, 0.3, 0.3, 0.5]
    assert [found.scores["jailbreak"] for found in third] == [0.3, 0.5]
    assert words.seen == ["one", "two", "one", "two", "three"]


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.guard.classifiers.pool._MAX_KNOWN", 2)
    words = Words()
    with pool_of(words) as (pool, _):
        for text in ("one", "two", "three", "three", "one"):
            await pool.scores(text, ["attack"])

    assert words.seen == ["one", "two", "three", "one"]
