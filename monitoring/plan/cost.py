"""What engines cost a month: rented, owned, or left to somebody else's interface."""

from __future__ import annotations

import math
from dataclasses import dataclass

from monitoring.plan.energy import Energy
from monitoring.plan.prices import (
    APIS,
    CLOUDS,
    ELECTRICITY,
    HOURS_PER_MONTH,
    SERVERS,
    WAGE,
    WAGE_SHARE,
    ApiPrice,
    CloudPrice,
)
from monitoring.plan.sources import Source

_SECONDS_PER_MONTH = 3600 * HOURS_PER_MONTH


@dataclass(frozen=True, slots=True)
class Choices:
    """What only the one who plans knows."""

    server_price: float | None = None
    """US dollars a device, with its part of the server; None: as published, where it is."""
    hour_price: float | None = None
    """US dollars a device and hour, of a contract."""
    electricity: float = ELECTRICITY.value
    years: float = 4.0
    """In which hardware is written off."""
    staff: float = 0.25
    """Of a full position, for servers of one's own."""


@dataclass(frozen=True, slots=True)
class Rented:
    provider: str
    instances: int
    devices: int
    """In these instances, used or not."""
    usd_per_month: float
    source: Source


@dataclass(frozen=True, slots=True)
class Owned:
    hardware: float
    """US dollars a month, written off."""
    power: float
    staff: float
    source: Source

    @property
    def usd_per_month(self) -> float:
        return self.hardware + self.power + self.staff


@dataclass(frozen=True, slots=True)
class Bought:
    """Tokens of somebody else's interface."""

    model: str
    provider: str
    usd_per_month: float
    source: Source


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of a month."""

    prompt: float
    answer: float


def tokens_per_month(requests_per_s: float, prompt_tokens: int, answer_tokens: int) -> Tokens:
    requests = requests_per_s * _SECONDS_PER_MONTH
    return Tokens(requests * prompt_tokens, requests * answer_tokens)


def rented(accelerator: str, devices: int, choices: Choices) -> list[Rented]:
    """So many devices in each cloud that has them, the cheapest first; whole instances."""
    offers = [offer for offer in CLOUDS if offer.accelerator == accelerator]
    if choices.hour_price is not None:
        offers.append(CloudPrice("your contract", accelerator, choices.hour_price, 1, Source("--hour-price", "")))
    found = [_rent(offer, devices) for offer in offers]
    return sorted(found, key=lambda offer: offer.usd_per_month)


def _rent(offer: CloudPrice, devices: int) -> Rented:
    instances = math.ceil(devices / offer.devices)
    usd = instances * offer.usd_per_hour * HOURS_PER_MONTH
    return Rented(offer.provider, instances, instances * offer.devices, usd, offer.source)


def owned(accelerator: str, devices: int, energy: Energy | None, choices: Choices) -> Owned | None:
    """Of one's own servers. None where nobody says what they cost or draw."""
    published = SERVERS.get(accelerator)
    price = choices.server_price if choices.server_price is not None else published.value if published else None
    if price is None or energy is None:
        return None
    source = Source("--server-price", "") if published is None or choices.server_price is not None else published.source
    return Owned(
        hardware=devices * price / (12 * choices.years),
        power=energy.kwh_per_month * choices.electricity,
        staff=choices.staff * WAGE.value / WAGE_SHARE.value / 12,
        source=source,
    )


def bought(tokens: Tokens, billion_parameters: float) -> list[Bought]:
    """These tokens from interfaces of models of about this size, and of small ones whose size nobody says."""
    found = [_buy(price, tokens) for price in APIS if _is_alike(price, billion_parameters)]
    return sorted(found, key=lambda offer: offer.usd_per_month)


def _buy(price: ApiPrice, tokens: Tokens) -> Bought:
    usd = (tokens.prompt * price.prompt_per_million + tokens.answer * price.answer_per_million) / 1e6
    return Bought(price.model, price.provider, usd, price.source)


def _is_alike(price: ApiPrice, billion_parameters: float) -> bool:
    size = price.billion_parameters
    return size is None or size / 2 <= billion_parameters <= size * 2
