import subprocess
import sys


def test_no_kill_of_a_writer_breaks_the_registry() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.faults.kill_writer", "--kills", "12"],
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.stdout.startswith("12 kills, 0 broken states\n"), done.stdout + done.stderr
