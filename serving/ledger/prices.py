"""What an answer costs, in whole nano-dollars (1e-9 USD): money is never a float."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field

NANOS_PER_DOLLAR = 1_000_000_000
_TOKENS_PER_PRICE = 1_000_000
DEFAULT_MODEL = "default"


class ModelPrice(BaseModel):
    """What the tokens of one model cost."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    prompt_per_million: Decimal = Field(default=Decimal(0), ge=0, le=1_000_000)
    """US dollars for a million tokens of prompt, as a decimal: "0.15"."""

    completion_per_million: Decimal = Field(default=Decimal(0), ge=0, le=1_000_000)
    """US dollars for a million tokens of answer."""


class PriceList:
    """Prices by model; the entry `default`, where there is one, holds for models that have none of their own."""

    LIVE = ("prices",)
    """Settings that `apply` takes over."""

    def __init__(self, prices: Mapping[str, ModelPrice] | None = None) -> None:
        self._prices: dict[str, tuple[int, int]] = {}
        self._default = (0, 0)
        self.apply(prices or {})

    def apply(self, prices: Mapping[str, ModelPrice]) -> None:
        """Take over other prices; answers settled from now on cost by them.

        Raises:
            ValueError: a price is finer than a nano-dollar a million tokens; nothing is changed.
        """
        taken = {
            model: (_nanos(model, p.prompt_per_million), _nanos(model, p.completion_per_million))
            for model, p in prices.items()
        }
        self._default = taken.get(DEFAULT_MODEL, (0, 0))
        self._prices = taken

    def cost(self, model: str, prompt_tokens: int, completion_tokens: int) -> int:
        """Nano-dollars for these tokens of `model`, rounded up; 0 for a model without a price."""
        prompt, completion = self._prices.get(model, self._default)
        return -(-(prompt * prompt_tokens + completion * completion_tokens) // _TOKENS_PER_PRICE)


def _nanos(model: str, dollars_per_million: Decimal) -> int:
    nanos = dollars_per_million * NANOS_PER_DOLLAR
    if nanos != nanos.to_integral_value():
        raise ValueError(f"the price {dollars_per_million} of {model!r} has more than nine decimal places")
    return int(nanos)
