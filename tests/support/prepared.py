"""What tests keep between runs: the converted default model, and the compressor's environment (1.5 GB).

PYTHONPATH=. python -P -m tests.support.prepared        # `make test` has it made while types are checked
"""

from __future__ import annotations

from pathlib import Path

from tests.support.running import run_signet
from training.compress.environment import ensure_environment

# Everything else of a run is fresh.
PREPARED = Path(__file__).parents[2] / ".signet" / "tests"


def prepare_model() -> None:
    """Have the default model in the registry of this home."""
    PREPARED.mkdir(parents=True, exist_ok=True)
    done = run_signet(PREPARED, "engine", "--prepare-only")
    assert done.returncode == 0, done.stderr


def prepare_compressor() -> Path:
    """Have the real compressor's environment below this home's `cache`; returns its Python."""
    return ensure_environment(PREPARED / "cache", PREPARED / "logs" / "compress-environment.log", show_progress=False)


if __name__ == "__main__":
    prepare_model()
    prepare_compressor()
