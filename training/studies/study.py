"""A claim, what is measured for each seed, and what follows from all of them."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal, TypeVar

from pydantic import JsonValue

from training.errors import TrainingError
from training.evaluate.scores import Score
from training.studies import STUDIES

T = TypeVar("T")

Verdict = Literal["held", "not held", "undecided"]

# Student's t for 95% on both sides, by degrees of freedom (Student 1908); beyond the last one the normal's.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


@dataclass(frozen=True)
class Trial:
    """One seed's run."""

    seed: int
    is_smallest: bool = False
    """Only to see that it runs: figures of it say nothing."""
    text: Path | None = None
    """A text to learn from in place of the standard library's source."""

    def pick(self, full: T, smallest: T) -> T:
        """A size of the study: in full, and in its smallest form."""
        return smallest if self.is_smallest else full


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one seed gave."""

    number: float
    """What the claim is judged by."""
    table: Mapping[str, float]
    """Other figures by name, in their order."""
    lines: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    """For the plot: of each line, heights by where they stand."""

    def as_json(self) -> dict[str, JsonValue]:
        lines: dict[str, JsonValue] = {name: [[x, y] for x, y in line.items()] for name, line in self.lines.items()}
        return {"number": self.number, "table": dict(self.table), "lines": lines}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Sample:
        lines = {name: dict(points) for name, points in value["lines"].items()}
        return cls(number=value["number"], table=value["table"], lines=lines)


@dataclass(frozen=True)
class Axis:
    """Of the plot."""

    name: str
    is_log: bool = False


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is claimed, and how it is measured."""

    claim: str
    number: str
    """What the number is, with its unit."""
    holds: Literal["above", "below"]
    """The claim holds where the number is on this side of `bar`."""
    bar: float
    measure: Callable[[Trial], Sample]
    x: Axis = Axis("")
    y: Axis = Axis("")
    """Of the plot's lines; a study without lines has its table drawn."""
    seeds: int = 4

    def verdict(self, number: Score) -> Verdict:
        """`held` or `not held` where the whole interval is on one side of the bar."""
        is_above, is_below = number.low > self.bar, number.high < self.bar
        if not (is_above or is_below):
            return "undecided"
        return "held" if is_above is (self.holds == "above") else "not held"


@dataclass(frozen=True)
class Result:
    """What a study found, and when and how."""

    name: str
    samples: Sequence[Sample]
    date: str
    command: str
    seconds: float
    """By the clock."""
    cpu_seconds: float
    """Of all threads: what it costs on a machine that has nothing else to do."""
    machine: str
    versions: Mapping[str, str]

    @property
    def number(self) -> Score:
        return mean_over_seeds([sample.number for sample in self.samples])

    def table(self) -> dict[str, Score]:
        return {
            name: mean_over_seeds([sample.table[name] for sample in self.samples]) for name in self.samples[0].table
        }

    def lines(self) -> dict[str, dict[float, Score]]:
        """Of each line, the mean by where it stands."""
        return {
            name: {x: mean_over_seeds([sample.lines[name][x] for sample in self.samples]) for x in line}
            for name, line in self.samples[0].lines.items()
        }

    def as_json(self) -> dict[str, JsonValue]:
        return {**asdict(self), "samples": [sample.as_json() for sample in self.samples]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Result:
        return cls(**{**value, "samples": [Sample.from_json(sample) for sample in value["samples"]]})


def mean_over_seeds(values: Iterable[float]) -> Score:
    """The mean with its 95% interval by Student's t; at least two values."""
    numbers = list(values)
    mean = fmean(numbers)
    degrees = len(numbers) - 1
    half = (_T[degrees - 1] if degrees <= len(_T) else 1.96) * stdev(numbers) / math.sqrt(len(numbers))
    return Score(mean, mean - half, mean + half)


def find_study(name: str) -> Study:
    """The study of this name; raises TrainingError where there is none."""
    if name not in STUDIES:
        raise TrainingError(f"{name} is not a study: there are {', '.join(STUDIES)}")
    study: Study = _module(name).STUDY
    return study


def explanation(name: str) -> tuple[str, str]:
    """A study's title and how it is done: its module's docstring."""
    title, _, rest = (inspect.getdoc(_module(name)) or "").partition("\n\n")
    return title.removesuffix("."), rest


def _module(name: str) -> Any:
    return importlib.import_module(f"training.studies.{name.replace('-', '_')}")
