"""Counting instructions: what callgrind writes, and what is printed of it. Valgrind itself is not needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtests.benchmarks.instructions import WORKLOADS, main, table, total
from loadtests.tools.processes import ProgramError


def test_a_dump_says_how_many_there_were(tmp_path: Path) -> None:
    dump = tmp_path / "counts.1"
    dump.write_text("# callgrind format\nevents: Ir\n\nfn=(1) f\n12 2000\n\ntotals: 159454528\n")

    assert total(dump) == 159_454_528


def test_a_dump_without_a_total_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "counts.1").write_text("# callgrind format\n")

    with pytest.raises(ProgramError, match=r"counts\.1"):
        total(tmp_path / "counts.1")


def test_two_checkouts_are_put_side_by_side() -> None:
    before, after = (dict.fromkeys(WORKLOADS, count) for count in (1_000_000.0, 1_250_000.0))

    assert "| not streamed | 1,000 | 1,250 | 1.250 |" in table(after, before)
    assert "| not streamed | 1,250 |" in table(after, None)


def test_without_valgrind_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    result = CliRunner().invoke(main)

    assert (result.exit_code, result.output) == (1, "Error: valgrind is not installed: apt-get install valgrind\n")
