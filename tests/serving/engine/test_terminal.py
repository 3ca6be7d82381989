"""What `signet serve` shows, on a terminal and off it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from serving.engine.terminal import Terminal


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


def test_off_a_terminal_each_step_is_a_plain_line_said_once(screen: io.StringIO):
    terminal = Terminal(Console(file=screen, width=80))

    for done in range(3):
        terminal.busy("model", "downloading", done, 3)
    terminal.done("model", "bot@1")
    terminal.warn("engine", "died")

    assert screen.getvalue().splitlines() == ["model    downloading", "model    bot@1", "engine   warning: died"]


def test_on_a_terminal_the_living_line_is_settled(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal(Console(file=screen, width=80, force_terminal=True))

    terminal.busy("model", "downloading", 1, 4)
    terminal.done("model", "bot@1")

    assert "downloading" in screen.getvalue()
    assert "bot@1" in screen.getvalue().splitlines()[-1]


def test_what_is_to_be_pasted_is_never_wrapped_or_interpreted(screen: io.StringIO):
    line = "curl " + "x" * 300 + " -d '{\"a\": [1, 2]}'"

    Terminal(Console(file=screen, width=80)).say(line)

    assert screen.getvalue() == line + "\n"
