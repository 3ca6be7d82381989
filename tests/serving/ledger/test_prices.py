"""Money is whole nano-dollars, rounded up."""

from __future__ import annotations

from decimal import Decimal

import pytest

from serving.errors import SettingsError
from serving.ledger import ModelPrice, PriceList
from serving.settings import load_settings

CHEAP = ModelPrice(prompt_per_million=Decimal("0.15"), completion_per_million=Decimal("0.60"))
FINE = ModelPrice(prompt_per_million=Decimal("0.0001"))


def test_a_price_is_of_prompt_and_answer() -> None:
    prices = PriceList({"m": CHEAP})

    assert prices.cost("m", 1_000_000, 0) == 150_000_000
    assert prices.cost("m", 10, 5) == 10 * 150 + 5 * 600


def test_a_model_without_a_price_costs_the_default_or_nothing() -> None:
    assert PriceList({"m": CHEAP}).cost("other", 1000, 1000) == 0
    assert PriceList({"default": CHEAP}).cost("other", 1000, 1000) == 750_000


def test_less_than_a_nano_dollar_is_rounded_up() -> None:
    prices = PriceList({"m": FINE})

    assert [prices.cost("m", tokens, 0) for tokens in (0, 1, 10, 11)] == [0, 1, 1, 2]


def test_prices_are_replaced_whole_or_not_at_all() -> None:
    prices = PriceList({"m": CHEAP})

    with pytest.raises(ValueError, match="more than nine decimal places"):
        prices.apply({"m": FINE, "n": ModelPrice(prompt_per_million=Decimal("0.00000000001"))})
    assert prices.cost("m", 1_000_000, 0) == 150_000_000

    prices.apply({"n": CHEAP})
    assert (prices.cost("m", 1000, 0), prices.cost("n", 1000, 0)) == (0, 150_000)


def test_prices_come_from_the_settings() -> None:
    settings = load_settings(
        environment={"SIGNET_PRICES": '{"m": {"prompt_per_million": "0.15", "completion_per_million": 2}}'}
    )

    assert PriceList(settings.prices).cost("m", 100, 10) == 100 * 150 + 10 * 2000


def test_a_negative_price_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"prices\.m\.prompt_per_million"):
        load_settings(environment={"SIGNET_PRICES": '{"m": {"prompt_per_million": -1}}'})
