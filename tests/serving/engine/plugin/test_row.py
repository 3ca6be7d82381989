"""What a marked request remembers: contexts used up, and whether its opening is over."""

import numpy as np
import pytest

from serving.engine.plugin.draws import GumbelDraw
from serving.engine.plugin.row import MarkedRow

BEFORE = 2**32 - 1  # the word that stands for tokens before the answer


def row(output: list[int], opening_nats: float = 0.0) -> MarkedRow:
    return MarkedRow(GumbelDraw(7), output, 0, 1.0, opening_nats)


def test_context_is_the_last_four_tokens_of_the_answer() -> None:
    output: list[int] = []
    marked = row(output)

    assert np.array_equal(marked.next_context(), [BEFORE] * 4)
    output.append(11)
    assert np.array_equal(marked.next_context(), [BEFORE, BEFORE, BEFORE, 11])
    output.extend([12, 13, 14, 15])
    assert np.array_equal(marked.next_context(), [12, 13, 14, 15])


def test_a_context_that_occurred_before_is_not_marked() -> None:
    output = [1, 2, 3, 4, 9]
    marked = row(output)
    assert marked.next_context() is not None

    output.extend([1, 2, 3, 4])

    assert marked.next_context() is None
    output.append(9)
    assert marked.next_context() is None  # 2, 3, 4, 9
    output.append(8)
    assert marked.next_context() is not None


def test_asking_twice_about_one_position_answers_the_same() -> None:
    """The engine may compute a step again, as it does for each part of a long prompt."""
    marked = row([1, 2, 3, 4, 5])

    assert np.array_equal(marked.next_context(), marked.next_context())


def test_tokens_taken_back_are_forgotten() -> None:
    output = [1, 2, 3, 4, 5, 6, 1, 2, 3, 4]
    marked = row(output)
    assert marked.next_context() is None

    del output[4:]

    assert np.array_equal(marked.next_context(), [1, 2, 3, 4])


def test_opening_lasts_until_the_tokens_could_have_differed_enough() -> None:
    output: list[int] = []
    marked = row(output, opening_nats=3.0)
    for step in range(3):
        assert marked.in_opening()
        marked.note_opening(1.0)
        output.append(step)

    assert not marked.in_opening()


def test_a_step_computed_again_counts_once() -> None:
    output: list[int] = []
    marked = row(output, opening_nats=3.0)
    for _ in range(5):
        marked.note_opening(2.0)
    output.append(1)

    assert marked.in_opening()


def test_a_request_back_from_preemption_is_past_its_opening() -> None:
    assert not row([1, 2], opening_nats=3.0).in_opening()


def test_without_an_opening_the_first_token_is_marked() -> None:
    assert not row([], opening_nats=0.0).in_opening()


@pytest.mark.parametrize("sent", range(12))
def test_an_answer_that_was_continued_goes_on_as_if_it_had_not_been(sent: int) -> None:
    """Contexts and repetitions are those of the whole answer, wherever it was cut."""
    answer = [1, 2, 3, 4, 9, 1, 2, 3, 4, 9, 1, 5, 6]
    output: list[int] = []
    whole, continued = row(answer[:sent]), MarkedRow(GumbelDraw(7), output, 0, 1.0, 0.0, answer[:sent])
    for token in answer[sent:]:
        expected, found = whole.next_context(), continued.next_context()
        assert (expected is None) == (found is None)
        assert expected is None or np.array_equal(expected, found)
        whole.output.append(token)
        output.append(token)
    del output[0], whole.output[sent]  # the engine takes a token back
    assert (whole.next_context() is None) == (continued.next_context() is None)


def test_the_opening_of_a_continued_answer_is_over() -> None:
    assert row([], 4.6).in_opening()
    assert not MarkedRow(GumbelDraw(7), [], 0, 1.0, 4.6, [1, 2]).in_opening()
