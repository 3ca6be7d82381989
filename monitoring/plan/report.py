"""A plan in words and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from monitoring.plan.accelerators import GIB
from monitoring.plan.planning import Plan
from monitoring.plan.prices import PUE, SERVER_POWER, WAGE
from monitoring.plan.sources import Source

_LABEL = 26


def as_text(plan: Plan) -> str:
    """Sections of label and value, and where the figures come from."""
    return "\n".join([*_head(plan), "", *_memory(plan), "", *_speed(plan), "", *_month(plan), "", *_sources(plan)])


def as_json(plan: Plan) -> dict[str, Any]:
    """Everything in base units: bytes, seconds, US dollars, watts."""
    question, memory, capacity = plan.question, plan.memory, plan.capacity
    context = question.load.prompt_tokens + question.load.answer_tokens / 2
    crossing = plan.engine.crossing(context)
    return {
        "model": question.model,
        "model_type": plan.shape.model_type,
        "parameters": plan.shape.num_weights,
        "precision": plan.weights.name,
        "accelerator": asdict(question.accelerator),
        "devices_per_engine": question.devices,
        "load": asdict(question.load) | {"average_requests_per_s": question.average_requests_per_s},
        "objective": asdict(question.objective),
        "holds": plan.holds,
        "advice": plan.advice,
        "memory_bytes_per_device": {
            "weights": memory.weights,
            "adapters": memory.adapters,
            "activations": memory.activations,
            "runtime": memory.runtime,
            "usable": memory.usable,
            "cache": memory.cache,
            "cache_per_token": memory.kv_per_token,
            "cache_tokens": memory.cache_tokens,
            "cache_wanted": memory.wanted_cache,
            "answers_at_once": plan.answers,
            "fits": memory.fits,
        },
        "speed": {
            "basis": "modelled",
            "efficiency": asdict(plan.engine.efficiency),
            "computed_in": plan.engine.arithmetic,
            "bandwidth_reached": plan.engine.bandwidth,
            "operations_reached": plan.engine.operations,
            "tokens_per_s_alone": 1 / capacity.alone_inter_token_s,
            "ttft_alone_s": capacity.alone_ttft_s,
            "crossing_answers": None if math.isinf(crossing) else crossing,
            "crossing_answers_weights_alone": plan.engine.crossing(0),
            "requests_per_s_per_engine": capacity.per_engine,
            "tokens_per_s_per_engine": capacity.peak_tokens_per_s,
        },
        "engines": capacity.engines,
        "devices": plan.devices,
        "served": asdict(capacity.served) if capacity.served else None,
        "tokens_per_month": asdict(plan.tokens),
        "cost_usd_per_month": {
            "cloud": [asdict(offer) for offer in plan.rented],
            "on_premises": (asdict(plan.owned) | {"usd_per_month": plan.owned.usd_per_month}) if plan.owned else None,
            "api": [asdict(offer) for offer in plan.bought],
        },
        "energy": (asdict(plan.energy) | {"grid": asdict(question.grid)}) if plan.energy else None,
    }


def _head(plan: Plan) -> Iterator[str]:
    question, load, objective = plan.question, plan.question.load, plan.question.objective
    here = question.accelerator.is_here
    yield (
        f"{question.model}: {_count(plan.shape.num_weights)} weights in {plan.weights.name}, "
        + ("on this machine" if here else f"{question.devices} x {question.accelerator.name} an engine")
    )
    yield (
        f"{load.requests_per_s:g} requests/s, prompts of {load.prompt_tokens:,} tokens, answers of "
        f"{load.answer_tokens:,}; for 95%, {_first(objective.ttft_s)}, {_ms(objective.inter_token_s)} between two"
    )


def _memory(plan: Plan) -> Iterator[str]:
    memory, question = plan.memory, plan.question
    tokens = question.load.prompt_tokens + question.load.answer_tokens
    yield "Memory of each device, exact but for activations and runtime"
    yield _row("weights", _bytes(memory.weights), _beside(plan))
    if memory.adapters:
        room = question.adapters
        yield _row("LoRA adapters", _bytes(memory.adapters), f"{room.at_once} of rank {room.rank}")
    if memory.activations:
        yield _row("activations", _bytes(memory.activations), f"{question.accelerator.batched_tokens:,} tokens a step")
    yield _row("runtime", _bytes(memory.runtime))
    left = f"{memory.cache_tokens:,} tokens of {memory.kv_per_token / 1024:,.1f} KiB"
    if memory.cache < 0:
        yield _row("left for the cache", "none", f"{_bytes(-memory.cache)} too much for {_bytes(memory.usable)}")
    else:
        most = memory.answers(tokens)
        yield _row("left for the cache", _bytes(memory.cache), f"{left}, {most:,} answers of {tokens:,} at once")
        yield _row("wanted of it", _bytes(memory.wanted_cache), f"{plan.answers:,} answers at once")
    yield _row("fits", "yes" if memory.fits else "NO", *(plan.advice if not memory.fits else ()))


def _beside(plan: Plan) -> str:
    """The files' size, where it is not what was computed."""
    stored = plan.question.stored_bytes
    if stored is None or plan.question.precision != "auto" or plan.weights.name == "fp32":
        return ""
    return "" if stored == plan.weights.total_bytes else f"the files hold {_bytes(stored)}"


def _speed(plan: Plan) -> Iterator[str]:
    capacity, question = plan.capacity, plan.question
    yield f"Speed of an engine, modelled (roofline, computed in {plan.engine.arithmetic})"
    yield _row(
        "one answer alone", f"{_number(1 / capacity.alone_inter_token_s)} tokens/s", _first(capacity.alone_ttft_s)
    )
    yield _row("compute bound from", *_crossing(plan))
    if not capacity.engines:
        yield _row("within the objective", "NOTHING", *(plan.advice if plan.memory.fits else ()))
        return
    peak = f"{capacity.per_engine:,.3g} requests/s"
    yield _row("at most", f"{_number(capacity.peak_tokens_per_s)} tokens/s", peak)
    devices = f"{plan.devices:,} devices" if question.devices > 1 else ""
    yield _row("engines for the load", f"{capacity.engines:,}", devices)
    served = capacity.served
    if served:
        stalls = f"1 gap in 100 is above {_ms(served.gap_p99_s)}"
        is_felt = served.gap_p99_s > 1.5 * served.inter_token_p95_s
        between = f"{_ms(served.inter_token_p95_s)} between two"
        yield _row("then, for 95%", _first(served.ttft_p95_s), between, stalls if is_felt else "")
        yield _row("answers at once", f"{served.answers_mean:,.1f} mean", f"{served.answers_p95:,} for 95% of the time")


def _crossing(plan: Plan) -> tuple[str, str]:
    """Where batches stop being bound by bandwidth: with answers' keys and values, and without."""
    load = plan.question.load
    crossing = plan.engine.crossing(load.prompt_tokens + load.answer_tokens / 2)
    alone = f"{plan.engine.crossing(0):,.0f} answers"
    if math.isinf(crossing):
        return alone, "at once, by the weights alone; with keys and values, never"
    return f"{crossing:,.0f} answers", f"at once; {alone} by the weights alone"


def _first(seconds: float) -> str:
    return f"first token in {_ms(seconds)}"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms" if seconds >= 0.02 else f"{1000 * seconds:.1f} ms"


def _month(plan: Plan) -> Iterator[str]:
    question, tokens = plan.question, plan.tokens
    yield (
        f"A month at {question.average_requests_per_s:g} requests/s: {_count(tokens.prompt)} tokens read, "
        f"{_count(tokens.answer)} written"
    )
    for offer in plan.rented:
        unused = offer.devices - plan.devices
        idle = f"{unused} of {offer.devices} devices unused" if unused else ""
        yield _row("cloud", _usd(offer.usd_per_month), f"{offer.instances} x {offer.provider}{_of(offer.source)}", idle)
    yield from _on_premises(plan)
    for price in plan.bought:
        yield _row("API", _usd(price.usd_per_month), f"{price.model}, {price.provider}{_of(price.source)}")
    energy = plan.energy
    if energy is None:
        why = "no counter to be read" if question.accelerator.is_here else "no engine holds the load"
        yield _row("energy", "unknown", why)
        return
    yield _row("energy", f"{_number(energy.wh_per_thousand_tokens)} Wh", f"per 1,000 tokens written, {energy.basis}")
    grid = f"per 1,000 tokens written, {energy.basis}, {question.grid.value:g} {question.grid.unit}"
    yield _row("carbon", f"{_number(energy.grams_per_thousand_tokens)} g", grid)
    yield _row("", f"{energy.kwh_per_month:,.0f} kWh", f"{energy.kg_per_month:,.0f} kg of CO2 a month, {energy.basis}")


def _on_premises(plan: Plan) -> Iterator[str]:
    owned, choices = plan.owned, plan.question.choices
    if owned is None:
        if plan.devices and not plan.question.accelerator.is_here:
            yield _row("on premises", "unknown", "no published price of a server: give --server-price")
        return
    hardware = f"hardware {_usd(owned.hardware)} over {choices.years:g} years,"
    yield _row("on premises", _usd(owned.usd_per_month), hardware)
    yield _row("", "", f"power {_usd(owned.power)}, staff {_usd(owned.staff)} ({choices.staff:g} of a position)")


def _sources(plan: Plan) -> Iterator[str]:
    yield "Sources"
    for source in (*plan.question.accelerator.sources, *plan.engine.efficiency.sources):
        yield f"  {source.where} ({source.date})"
    if plan.owned:
        for figure in (PUE, SERVER_POWER, WAGE):
            yield f"  {figure.source.where} ({figure.source.date})"
        yield f"  {plan.owned.source.where}{_of(plan.owned.source)}"
    if plan.energy:
        yield f"  {plan.question.grid.source.where} ({plan.question.grid.source.date})"


def _row(label: str, value: str, *notes: str) -> str:
    told = "; ".join(note for note in notes if note)
    return f"  {label:{_LABEL}} {value:>22}  {told}".rstrip()


def _bytes(number: float) -> str:
    return f"{number / GIB:,.2f} GiB" if abs(number) >= GIB / 10 else f"{number / 1024**2:,.1f} MiB"


def _usd(number: float) -> str:
    return f"${number:,.0f}" if number >= 10 else f"${number:,.2f}"


def _of(source: Source) -> str:
    return f" ({source.date})" if source.date else ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _count(number: float) -> str:
    for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:,.3g} {name}"
    return f"{number:,.0f}"
