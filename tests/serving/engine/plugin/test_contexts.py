"""Contexts of other widths; those of four tokens are tested with the rows that have them."""

from serving.engine.plugin.contexts import Contexts


def test_one_token_of_context_is_the_last() -> None:
    output: list[int] = []
    contexts = Contexts(output, 1, [5])
    assert contexts.current() == (5,)

    output.extend([6, 7])

    assert contexts.current() == (7,)
    assert contexts.unused() == (7,)
    output.append(6)
    assert contexts.unused() is None
    assert contexts.current() == (6,)
