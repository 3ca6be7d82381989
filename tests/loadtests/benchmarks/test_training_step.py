import pytest

from loadtests.benchmarks import training_step


def test_steps_take_turns_and_parts_agree(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["training_step", "--steps", "8"])

    training_step.main()

    step, first, twelve = capsys.readouterr().out.splitlines()
    assert "of 3 pairs" in step
    assert float(first.split("at most ")[1].split()[0]) < 1e-6
    assert float(twelve.split("at most ")[1].split()[0]) < 1e-4
