"""The runner of the fault campaigns: what it runs exists, and a loss is not overlooked."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtests.faults import campaigns


def test_every_campaign_is_a_command_that_exists() -> None:
    listed = CliRunner().invoke(campaigns.main, ["--list"]).output.splitlines()
    assert len(listed) == len(campaigns.CAMPAIGNS)
    for campaign in campaigns.CAMPAIGNS:
        for module, *_ in (campaign.full, campaign.quick):
            assert importlib.util.find_spec(module) is not None, module


def test_a_loss_is_in_the_table_and_in_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = campaigns.Campaign("good", "nothing", ("this",), ("this",))
    bad = campaigns.Campaign("bad", "loses", ("no_such_module_anywhere",), ("no_such_module_anywhere",))
    monkeypatch.setattr(campaigns, "CAMPAIGNS", (good, bad))
    monkeypatch.setattr(campaigns, "REPOSITORY", tmp_path)
    monkeypatch.setattr(campaigns, "LOGS", tmp_path / "build" / "faults")
    done = CliRunner().invoke(campaigns.main)
    assert done.exit_code == 1
    table = [line.split()[:2] for line in done.output.splitlines()]
    assert ["good", "ok"] in table
    assert ["bad", "FAILED"] in table
    assert "something was lost in bad" in done.output
    assert "No module named" in (tmp_path / "build" / "faults" / "bad.log").read_text()
