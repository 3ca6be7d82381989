from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import running
from tests.support.running import run_signet
from tests.support.unit import starts_processes


def _by_module() -> None:
    subprocess.run(["true"], check=True)


def _by_a_function_that_tests_share() -> None:
    run_signet(Path(), "--version")


def _by_its_module() -> None:
    running.run_signet(Path(), "--version")


def _within_another() -> None:
    [command() for command in [lambda: _by_module()]]


class Command:
    def run(self) -> None:
        _by_module()


def _by_a_class() -> None:
    Command().run()


@pytest.fixture
def started() -> None:
    _by_module()


@pytest.mark.parametrize(
    "function", [_by_module, _by_a_function_that_tests_share, _by_its_module, _within_another, _by_a_class]
)
def test_what_starts_processes_is_told(function: Callable[..., object]) -> None:
    assert starts_processes(function)


def _free_port() -> None:
    running.free_port()


@pytest.mark.parametrize("function", [_free_port, starts_processes, len])
def test_what_starts_none_is_told(function: Callable[..., object]) -> None:
    assert not starts_processes(function)


def test_a_test_whose_fixture_starts_processes_is_no_unit_test(request: pytest.FixtureRequest, started: None) -> None:
    assert request.node.get_closest_marker("processes")
    assert not request.node.get_closest_marker("unit")


def test_a_test_that_needs_nothing_is_a_unit_test(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("unit")
