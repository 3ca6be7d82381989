"""Published figures: each has a source and a date, and none contradicts another."""

from __future__ import annotations

import re

import pytest

from monitoring.plan import energy, memory, prices
from monitoring.plan.accelerators import ACCELERATORS, GIB, Accelerator
from monitoring.plan.efficiency import ON_ACCELERATORS, ON_PROCESSORS
from monitoring.plan.grids import GRIDS
from monitoring.plan.prices import APIS, CLOUDS, SERVERS
from monitoring.plan.sources import Figure

_FIGURES = [
    *GRIDS.values(),
    *SERVERS.values(),
    *(value for module in (energy, memory, prices) for value in vars(module).values() if isinstance(value, Figure)),
]
SOURCES = [
    *(figure.source for figure in _FIGURES),
    *(row.source for row in (*CLOUDS, *APIS)),
    *(source for row in ACCELERATORS.values() for source in row.sources),
    *ON_ACCELERATORS.sources,
    *ON_PROCESSORS.sources,
]


def test_every_figure_says_where_and_when_it_was_read() -> None:
    named = [source for source in SOURCES if len(source.where) > 8]
    dated = [source for source in named if re.fullmatch(r"20\d\d(-\d\d(-\d\d)?)?", source.date)]

    assert dated == SOURCES
    assert len(SOURCES) > 70


@pytest.mark.parametrize("row", ACCELERATORS.values(), ids=lambda row: row.name)
def test_an_accelerator_is_in_base_units(row: Accelerator) -> None:
    """A slip by a thousand, or a sparse peak, would be out of these bounds."""
    assert row.sources
    assert 20 * GIB < row.memory_bytes < 300 * GIB
    assert 1e11 < row.bandwidth < 1e13
    # Operations for each byte of bandwidth: what a balanced device of these years has.
    assert 100 < row.operations["16-bit"] / row.bandwidth < 450
    assert row.operations.get("fp8", 0) in (0, pytest.approx(2 * row.operations["16-bit"], rel=0.02))


def test_clouds_rent_what_is_known() -> None:
    assert {offer.accelerator for offer in CLOUDS} <= set(ACCELERATORS)
    assert all(0.1 < offer.usd_per_hour / offer.devices < 20 for offer in CLOUDS)
