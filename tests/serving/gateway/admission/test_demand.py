from __future__ import annotations

import pytest

from serving.gateway.admission.demand import Demand


@pytest.mark.parametrize(("chars", "slots"), [(10, 1), (8192 * 4, 1), (3 * 8192 * 4, 3)])
def test_texts_to_embed_take_room_by_their_length(chars: int, slots: int) -> None:
    demand = Demand("acme", 1.0, "m", slots=2)

    demand.measure(chars, is_embedding=True)

    assert (demand.slots, demand.prompt_chars) == (slots, chars)


def test_a_question_takes_a_slot_for_each_answer_however_long_it_is() -> None:
    demand = Demand("acme", 1.0, "m", slots=2)

    demand.measure(10**6, is_embedding=False)

    assert demand.slots == 2


def test_a_call_of_our_own_is_a_part_of_its_request() -> None:
    demand = Demand("acme", 2.0, "m", priority=3, slots=4, deadline=9.0)

    call = demand.for_call("judge", 100)

    assert (call.tenant, call.weight, call.priority, call.deadline) == ("acme", 2.0, 3, 9.0)
    assert (call.model, call.slots, call.prompt_chars, call.is_part) == ("judge", 1, 100, True)
    assert (demand.model, demand.is_part) == ("m", False)
