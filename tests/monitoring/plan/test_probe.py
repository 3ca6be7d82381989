"""Measuring this machine: what is read of it, and that the probe gives plausible figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitoring.plan import probe
from monitoring.plan.errors import PlanError
from monitoring.plan.probe import Measured, energy_counters, engine_dtype, measure

MEASURED = Measured(threads=1, bandwidth=10e9, operations=100e9, power_w=None)


def test_it_reads_and_multiplies_at_a_plausible_rate() -> None:
    """A thousandth and a thousand times of an ordinary core would be a mistake in the arithmetic."""
    measured = measure(threads=1, seconds=0.02)

    assert 1e8 < measured.bandwidth < 1e12
    assert 1e8 < measured.operations < 1e13


def test_it_runs_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")

    accelerator, measured = probe.here(seconds=0.02)

    assert accelerator.is_here
    assert measured.threads >= 1
    assert accelerator.operations["fp32"] == measured.operations
    assert "measured here" in accelerator.sources[0].where


def test_a_probe_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe.sys, "executable", "/nonexistent")

    with pytest.raises(PlanError, match="this machine cannot be measured: FileNotFoundError"):
        probe.here(seconds=0.02)


def test_the_engine_computes_in_32_bits_where_16_are_slow() -> None:
    assert engine_dtype(frozenset({"avx512f"})) == "float32"
    assert engine_dtype(frozenset({"avx512f", "avx512_bf16"})) is None
    # Other architectures list no flags of these names.
    assert engine_dtype(frozenset()) is None


def test_16_bits_are_as_fast_as_they_can_be_only_with_their_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(probe._as_accelerator(MEASURED, frozenset({"avx2"}), 1).operations) == {"fp32"}
    assert probe._as_accelerator(MEASURED, frozenset({"avx512_bf16"}), 1).operations["16-bit"] == 200e9


def test_counters_of_whole_packages_are_read(tmp_path: Path) -> None:
    for name in ("intel-rapl:0", "intel-rapl:0:0", "intel-rapl:1", "intel-rapl-mmio:0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text("5000000")

    counters = energy_counters(tmp_path)

    assert [path.parent.name for path in counters] == ["intel-rapl:0", "intel-rapl:1"]
    assert probe._joules(counters) == 10.0
    assert energy_counters(tmp_path / "none") == []
