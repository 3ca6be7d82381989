"""Energy and carbon of answers, modelled from published draws of such devices or from this machine's counter."""

from __future__ import annotations

import math
from dataclasses import dataclass

from monitoring.plan.accelerators import Accelerator
from monitoring.plan.prices import HOURS_PER_MONTH, PUE, SERVER_POWER
from monitoring.plan.queueing import Served
from monitoring.plan.sources import Figure, Source

# Shares of the thermal design power. Between one answer and hundreds the draw grows about with their logarithm.
ALONE = Figure(
    403 / 700, "of the design power, one answer at a time",
    Source("github.com/tgarg01/silybench-data: Qwen3 8B on one H100, 402.7 W", "2026-09-24"),
)  # fmt: skip
FULL = Figure(
    688 / 700, "of the design power, 512 answers at a time",
    Source("ML.ENERGY through huggingface.co/datasets/leadgreen/green-token-index: one H100, 688 W", "2026"),
)  # fmt: skip
IDLE = Figure(
    80.3 / 700, "of the design power, model loaded and nothing to do",
    Source("api.serialalice.pt/alice-benchmark: one H200, 80.3 W", "2026-06"),
)  # fmt: skip
_FULL_ANSWERS = 512


@dataclass(frozen=True, slots=True)
class Energy:
    """At a mean load, of all engines with the servers round them and their cooling."""

    basis: str
    """`modelled`, or what was read."""
    watts: float
    kwh_per_month: float
    wh_per_thousand_tokens: float
    """Of answers; their prompts' reading is in it."""
    grams_per_thousand_tokens: float
    kg_per_month: float


def energy_of(
    accelerator: Accelerator, devices: int, engines: int, served: Served, tokens_per_month: float, grid: Figure
) -> Energy | None:
    """`served`: what each engine does at the mean load. None where nobody says what the device draws."""
    if accelerator.power_w is None:
        return None
    if accelerator.is_here:
        # The counter's reading is the processor's alone, and its idle draw is in it.
        watts, basis = accelerator.power_w * engines, "modelled from this processor's counter, read under full load"
    else:
        busy = served.busy * share_of_power(served.answers_mean) + (1 - served.busy) * IDLE.value
        watts = accelerator.power_w * busy * devices * engines * SERVER_POWER.value * PUE.value
        basis = "modelled"
    kwh = watts * HOURS_PER_MONTH / 1000
    thousands = tokens_per_month / 1000
    return Energy(
        basis=basis,
        watts=watts,
        kwh_per_month=kwh,
        wh_per_thousand_tokens=1000 * kwh / thousands,
        grams_per_thousand_tokens=kwh * grid.value / thousands,
        kg_per_month=kwh * grid.value / 1000,
    )


def share_of_power(answers: float) -> float:
    """Of the design power, with so many answers in a step."""
    part = min(math.log(max(answers, 1)) / math.log(_FULL_ANSWERS), 1)
    return ALONE.value + part * (FULL.value - ALONE.value)
