"""Which tests are unit tests: those that need no engine, no server and no other process, and train no model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
# Only what tests and their tools call is followed: a command of Signet's reaches everything that Signet can do.
FOLLOWED = (str(REPOSITORY / "tests"), str(REPOSITORY / "loadtests"))
MODULES = {"subprocess", "multiprocessing"}
# Small models, a second each: together they would be a third of all unit tests' time.
TRAINING = tuple(
    str(REPOSITORY / "tests" / folder)
    for folder in ("training/methods", "training/tune", "training/studies", "loadtests/benchmarks")
)
NEEDS = ("engine", "services", "processes", "trains", "slow", "faults")


def mark_unit_tests(items: list[pytest.Item]) -> None:
    """Mark what starts processes, by itself or by its fixtures, as `processes`, and what needs nothing as `unit`.

    Nobody has to remember a mark, and `pytest -m unit` runs what can be run in seconds.
    """
    for item in items:
        if isinstance(item, pytest.Function) and any(map(starts_processes, _functions(item))):
            item.add_marker("processes")
        if str(item.path).startswith(TRAINING):
            item.add_marker("trains")
        if not any(item.get_closest_marker(name) for name in NEEDS):
            item.add_marker("unit")


def _functions(item: pytest.Function) -> Iterator[Callable[..., Any]]:
    yield item.function
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        yield definitions[-1].func


def starts_processes(function: Callable[..., Any]) -> bool:
    """Whether a test's function names a module that starts processes, or calls one of tests' that does."""
    return _reaches(inspect.unwrap(function), set())


def _reaches(thing: Any, seen: set[int]) -> bool:
    if isinstance(thing, ModuleType):
        return thing.__name__ in MODULES
    if id(thing) in seen:
        return False
    seen.add(id(thing))
    if isinstance(thing, type):
        followed = inspect.getmodule(thing)
        file = getattr(followed, "__file__", None) or ""
        return file.startswith(FOLLOWED) and any(_reaches(member, seen) for member in vars(thing).values())
    function = inspect.unwrap(getattr(thing, "__func__", thing)) if callable(thing) else thing
    if not isinstance(function, FunctionType) or not function.__code__.co_filename.startswith(FOLLOWED):
        return False
    return any(_reaches(named, seen) for named in _named(function))


def _named(function: FunctionType) -> Iterator[Any]:
    """The globals that a function's code names, and what it takes from a module among them."""
    names = _names(function.__code__)
    for name in names:
        value = function.__globals__.get(name)
        yield value
        if isinstance(value, ModuleType):
            yield from (vars(value)[other] for other in names if other in vars(value))


@cache
def _names(code: CodeType) -> frozenset[str]:
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return frozenset(code.co_names).union(*inner)
