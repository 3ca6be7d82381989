"""Amounts of money: integers of 1e-9 US dollars inside, decimal dollars for people. Never floats."""

from __future__ import annotations

from decimal import Decimal

from serving.identity.errors import InvalidValue

NANOS_PER_DOLLAR = 10**9
LARGEST_NANOS = 10**18
"""A thousand million dollars; far from the end of a 64-bit column."""


def parse_dollars(text: str) -> int:
    """`"12.50"` as 12500000000.

    Raises:
        InvalidValue: it is no such number, negative, finer than a nano-dollar or beyond measure.
    """
    try:
        nanos = Decimal(text) * NANOS_PER_DOLLAR
    except ArithmeticError:
        nanos = Decimal("NaN")
    if not (nanos.is_finite() and 0 <= nanos <= LARGEST_NANOS) or nanos != nanos.to_integral_value():
        raise InvalidValue(f"{text[:40]!r} is not an amount in dollars such as 12.50")
    return int(nanos)


def format_dollars(nanos: int) -> str:
    """12500000000 as `"12.50"`: at least cents, and as many digits more as there are."""
    whole, rest = divmod(nanos, NANOS_PER_DOLLAR)
    return f"{whole}.{f'{rest:09}'.rstrip('0'):0<2}"
