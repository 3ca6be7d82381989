import io

import pytest

from training import progress
from training.progress import track, track_bytes


def test_log_gets_a_line_at_intervals_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 11.0, 12.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()

    with track("Training", stream=stream) as step:
        for done in (1, 2, 3, 4):
            step(done, 4, f"loss {done}")

    assert stream.getvalue().splitlines() == ["Training: 2/4, 11 s left, loss 2", "Training: 4/4, 0 s left, loss 4"]


def test_quick_step_says_nothing_in_a_log() -> None:
    stream = io.StringIO()

    with track("Encoding", stream=stream) as step:
        step(1, 1)

    assert stream.getvalue() == ""


def test_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()

    with track("Training", stream=stream) as step:
        step(3, 4, "loss 1.5")

    for part in ("Training", "3/4", "loss 1.5"):
        assert part in stream.getvalue()


def test_other_processes_are_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with track("Training", enabled=False) as step:
        step(1, 2)

    assert capfd.readouterr() == ("", "")


def test_bytes_are_counted_in_megabytes(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "LOG_INTERVAL_SECONDS", 0.0)

    with track_bytes("Verifying tiny@1") as step:
        step("model.safetensors", 2_500_000, 5_000_000)

    assert "Verifying tiny@1 (MB): 2/5" in capfd.readouterr().err
