import pytest

from training.data import Chat, Message, check_disjoint, split_heldout
from training.errors import DataError


def make_chat(text: str, line: int = 1, file: str = "chats.jsonl") -> Chat:
    messages = [Message(role="user", content=text), Message(role="assistant", content="yes")]
    return Chat(messages=messages, source=f"{file}:{line}")


CHATS = [make_chat(f"question {number}", number) for number in range(500)]


def test_fraction_is_about_held() -> None:
    train, heldout = split_heldout(CHATS, 0.1)

    assert len(train) + len(heldout) == len(CHATS)
    assert 30 <= len(heldout) <= 70


def test_chat_keeps_its_side_when_the_file_grows_or_is_reordered() -> None:
    before = {chat.messages[0].content for chat in split_heldout(CHATS[:250], 0.1)[1]}
    after = {chat.messages[0].content for chat in split_heldout(CHATS[::-1], 0.1)[1]}

    assert before == {text for text in after if text in {chat.messages[0].content for chat in CHATS[:250]}}


def test_equal_chats_are_on_one_side() -> None:
    train, heldout = split_heldout(CHATS + [make_chat(f"question {number}", 900) for number in range(500)], 0.3)

    assert not {chat.messages[0].content for chat in train} & {chat.messages[0].content for chat in heldout}


def test_a_single_chat_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"chats\.jsonl: holds a single chat: nothing is left to hold out"):
        split_heldout([*CHATS[:1], make_chat("question 0", 7)], 0.5)


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
def test_few_chats_leave_neither_side_empty(fraction: float) -> None:
    for start in range(0, 100, 2):
        train, heldout = split_heldout(CHATS[start : start + 2], fraction)
        assert (len(train), len(heldout)) == (1, 1)


def test_held_out_chat_that_is_trained_on_is_named() -> None:
    check_disjoint(CHATS[:2], CHATS[2:4])

    with pytest.raises(DataError, match=r"held\.jsonl:9: is held out, but chats\.jsonl:1 trains on the same chat"):
        check_disjoint(CHATS[:2], [make_chat("question 1", 9, "held.jsonl")])


def test_a_weight_does_not_change_which_chat_it_is() -> None:
    weighed = [chat.model_copy(deep=True) for chat in CHATS]
    for chat in weighed:
        chat.messages[1].weight = 1

    before, after = (split_heldout(chats, 0.1)[1] for chats in (CHATS, weighed))

    assert [chat.source for chat in before] == [chat.source for chat in after]
    with pytest.raises(DataError, match="trains on the same chat"):
        check_disjoint(CHATS[:1], weighed[:1])
