from random import Random

from training.redteam.case import Values


def test_values_are_the_same_for_a_seed_and_others_for_another() -> None:
    text = "{canary} {other} {api_key} {password} {card} {email} {phone} {host}"

    first, again, another = (Values(Random(seed)).fill(text) for seed in ("a", "a", "b"))

    assert first == again
    assert not set(first.split()) & set(another.split()) - {"+1", "415", "555"}


def test_a_value_is_the_same_wherever_it_stands() -> None:
    values = Values(Random(0))

    assert values.fill("{canary}{canary}") == values.fill("{canary}") * 2


def test_other_braces_stay() -> None:
    assert Values(Random(0)).fill('{"a": {}} {attack}') == '{"a": {}} {attack}'


def test_card_numbers_pass_the_checksum() -> None:
    for seed in range(20):
        digits = [int(digit) for digit in Values(Random(seed)).fill("{card}")]
        doubled = [sum(divmod(2 * digit, 10)) if place % 2 == 0 else digit for place, digit in enumerate(digits)]
        assert len(digits) == 16
        assert sum(doubled) % 10 == 0
