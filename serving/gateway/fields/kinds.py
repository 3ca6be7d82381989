"""Types of a field's value, strictly: `"0"`, `1.0` and `true` are no whole numbers.

Engines read more leniently. Two readings of one value would let a request say one thing to the gateway, which decides
on marks, limits and budgets, and another to the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

from msgspec import Meta


class Kind(NamedTuple):
    """What a value must be, in `words` that follow "must be"."""

    words: str
    fits: Callable[[Any], bool]
    schema: Any = None
    """The same as a type that msgspec checks; None: types cannot say it."""


def number(least: float, most: float) -> Kind:
    """A number, whole or not."""

    def fits(value: Any) -> bool:
        kind = type(value)
        return (kind is float or kind is int) and least <= value <= most

    return Kind(f"a number from {least:g} to {most:g}", fits, Annotated[float, Meta(ge=least, le=most)])


def whole(least: int, most: int) -> Kind:
    """A whole number."""

    def fits(value: Any) -> bool:
        return type(value) is int and least <= value <= most

    words = f"a whole number from {_written(least)} to {_written(most)}"
    return Kind(words, fits, Annotated[int, Meta(ge=least, le=most)])


def text(most: int) -> Kind:
    """A string of at most `most` characters."""
    return Kind(
        f"text of at most {most:,} characters",
        lambda value: type(value) is str and len(value) <= most,
        Annotated[str, Meta(max_length=most)],
    )


def one_of(*choices: str) -> Kind:
    """One of a few words."""
    words = " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))
    return Kind(words, lambda value: type(value) is str and value in choices)


def texts(most: int, chars: int, *, alone: bool = False) -> Kind:
    """A list of at most `most` strings of at most `chars` characters each; `alone`: or one such string."""

    def fits(value: Any) -> bool:
        if type(value) is str:
            return alone and len(value) <= chars
        return (
            type(value) is list
            and len(value) <= most
            and all(type(item) is str and len(item) <= chars for item in value)
        )

    words = f"a list of at most {most:,} texts of at most {chars:,} characters"
    return Kind(f"text, or {words}" if alone else words, fits)


def ids(most: int) -> Kind:
    """A list of at most `most` token ids."""
    return Kind(f"a list of at most {most:,} token ids", lambda value: _are_ids(value) and len(value) <= most)


def _is_boolean(value: Any) -> bool:
    return value is True or value is False


def _are_ids(value: Any) -> bool:
    return type(value) is list and all(type(item) is int and item >= 0 for item in value)


def _are_flags(value: Any) -> bool:
    return type(value) is dict and all(map(_is_boolean, value.values()))


def _are_biases(value: Any) -> bool:
    return (
        type(value) is dict
        and len(value) <= MOST_BIASES
        and all(key.isascii() and key.isdigit() and _BIAS.fits(each) for key, each in value.items())
    )


def _is_prompt(value: Any) -> bool:
    """Text or token ids, or a list of one of the two."""
    if type(value) is str:
        return True
    return type(value) is list and (
        all(type(item) is str for item in value) or _are_ids(value) or all(map(_are_ids, value))
    )


def _written(value: int) -> str:
    return f"{value:,}" if abs(value) < 10**12 else f"{'-' if value < 0 else ''}2^63"


# OpenAI's documentation speaks of hundreds; an engine keeps a row of its vocabulary for each request.
MOST_BIASES = 1024
_BIAS = number(-100, 100)

BOOLEAN = Kind("true or false", _is_boolean, bool)
OBJECT = Kind("an object", lambda value: type(value) is dict)
LIST = Kind("a list", lambda value: type(value) is list)
TEXT_OR_LIST = Kind("text or a list", lambda value: type(value) in (str, list))
TEXT_OR_OBJECT = Kind("text or an object", lambda value: type(value) in (str, dict))
FLAGS = Kind("an object of true and false by name", _are_flags)
BIASES = Kind(f"an object of at most {MOST_BIASES:,} numbers from -100 to 100 by token id", _are_biases)
PROMPT = Kind("text or token ids, or a list of one of the two", _is_prompt)
ANYTHING = Kind("anything", lambda _: True)
