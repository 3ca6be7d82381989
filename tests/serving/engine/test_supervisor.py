"""Signals; the rest of the supervisor is tested as a whole, in test_serve.py."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from serving.engine.supervisor import STOP_SIGNALS, StopRequested, stop_on_signals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_becomes_a_request_to_stop(number: signal.Signals):
    before = signal.getsignal(number)

    with pytest.raises(StopRequested), stop_on_signals():
        signal.raise_signal(number)

    assert signal.getsignal(number) == before


def test_nohup_is_respected():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with stop_on_signals():
        signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL


def test_interrupt_is_taken_where_a_script_has_it_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    with pytest.raises(StopRequested), stop_on_signals():
        signal.raise_signal(signal.SIGINT)
