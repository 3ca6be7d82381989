"""Carbon of electricity, grams of CO2 equivalents a kilowatt-hour, over the life cycle."""

from __future__ import annotations

from collections.abc import Mapping

from monitoring.plan.sources import Figure, Source

_EMBER = Source(
    "Ember and Energy Institute through Our World in Data, as CodeCarbon's global_energy_mix.json has it", "2023"
)
_UNIT = "g/kWh"

GRIDS: Mapping[str, Figure] = {
    "world": Figure(481, _UNIT, Source("Ember (statista.com/statistics/943137)", "2023")),
    **{
        name: Figure(grams, _UNIT, _EMBER)
        for name, grams in {
            "australia": 549, "canada": 170, "china": 582, "finland": 79, "france": 56, "germany": 381, "india": 713,
            "ireland": 291, "japan": 485, "netherlands": 268, "norway": 30, "poland": 662, "spain": 174, "sweden": 41,
            "switzerland": 35, "uk": 238, "usa": 369,
        }.items()
    },
}  # fmt: skip
