"""Money and energy of a month."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitoring.plan.accelerators import ACCELERATORS, Accelerator
from monitoring.plan.cost import Choices, bought, owned, rented, tokens_per_month
from monitoring.plan.energy import Energy, energy_of, share_of_power
from monitoring.plan.grids import GRIDS
from monitoring.plan.prices import HOURS_PER_MONTH, PUE, SERVER_POWER
from monitoring.plan.queueing import Served

SERVED = Served(
    ttft_p50_s=0.1,
    ttft_p95_s=0.2,
    inter_token_p50_s=0.01,
    inter_token_p95_s=0.02,
    gap_p99_s=0.05,
    answers_mean=1.0,
    answers_p95=2,
    busy=1.0,
)


def _energy(served: Served = SERVED, engines: int = 1, tokens: float = 1e9) -> Energy:
    found = energy_of(ACCELERATORS["h100"], 1, engines, served, tokens, GRIDS["france"])
    assert found is not None
    return found


def test_a_cloud_rents_whole_instances() -> None:
    offers = {offer.provider: offer for offer in rented("h100", 9, Choices())}

    assert offers["AWS p5.48xlarge"].instances == 2
    assert offers["AWS p5.48xlarge"].usd_per_month == pytest.approx(2 * 55.04 * HOURS_PER_MONTH)
    assert offers["RunPod Secure"].instances == 9


def test_the_cheapest_comes_first_and_a_contract_of_ones_own_is_one_of_them() -> None:
    offers = rented("h100", 1, Choices(hour_price=1.0))

    assert offers[0].provider == "your contract"
    assert offers[0].usd_per_month == pytest.approx(HOURS_PER_MONTH)
    assert [offer.usd_per_month for offer in offers] == sorted(offer.usd_per_month for offer in offers)


def test_what_is_owned_is_written_off_fed_and_looked_after() -> None:
    choices = Choices(server_price=48_000, years=4, electricity=0.1, staff=0.5)

    costs = owned("l4", 2, _energy(), choices)

    assert costs is not None
    assert costs.hardware == pytest.approx(2 * 1000)
    assert costs.power == pytest.approx(_energy().kwh_per_month * 0.1)
    assert costs.staff == pytest.approx(0.5 * 90_520 / 0.701 / 12)
    assert costs.usd_per_month == costs.hardware + costs.power + costs.staff


def test_a_server_that_nobody_prices_is_unknown_rather_than_free() -> None:
    assert owned("l4", 1, _energy(), Choices()) is None
    assert owned("h100", 1, None, Choices()) is None


def test_interfaces_are_those_of_models_of_this_size() -> None:
    tokens = tokens_per_month(1.0, 1000, 250)

    names = {offer.model for offer in bought(tokens, 8.0)}

    assert tokens.answer == 250 * 3600 * HOURS_PER_MONTH
    assert {"Llama 3.1 8B", "ministral-8b", "gpt-4o-mini"} <= names
    assert not [name for name in names if "70B" in name or "3b" in name]


def test_energy_is_called_modelled_and_holds_servers_and_cooling() -> None:
    energy = _energy()

    assert energy.basis == "modelled"
    # One answer at a time: 403 of 700 W.
    assert energy.watts == pytest.approx(403 * SERVER_POWER.value * PUE.value)
    assert energy.kwh_per_month == pytest.approx(energy.watts * HOURS_PER_MONTH / 1000)
    assert energy.wh_per_thousand_tokens == pytest.approx(1000 * energy.kwh_per_month / 1e6)
    assert energy.grams_per_thousand_tokens == pytest.approx(56 * energy.wh_per_thousand_tokens / 1000)


def test_an_idle_engine_draws_less_and_a_full_one_more() -> None:
    assert _energy(replace(SERVED, busy=0.0)).watts < 0.25 * _energy().watts
    assert _energy(replace(SERVED, answers_mean=512)).watts > 1.5 * _energy().watts
    assert share_of_power(10_000) == share_of_power(512)


def test_energy_of_a_processor_is_known_only_from_its_counter(processor: Accelerator) -> None:
    assert energy_of(processor, 1, 1, SERVED, 1e9, GRIDS["world"]) is None

    read = energy_of(replace(processor, power_w=50.0), 1, 1, SERVED, 1e9, GRIDS["world"])

    assert read is not None
    assert read.watts == 50.0
    assert "counter" in read.basis
