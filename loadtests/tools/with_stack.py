"""Run a command against a `signet serve` of its own: started on free ports, stopped afterwards.

    python -m loadtests.tools.with_stack python -m loadtests.benchmarks.real_engine \\
        --engine-url {engine} --gateway-url {gateway} …

`{engine}`, `{gateway}`, `{key}`, `{keyring}` and `{model_folder}` in the command stand for what was started. The home
is `.signet/bench-stack`, so that the default model is made once.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtests.tools.processes import REPOSITORY, ProgramError, running
from loadtests.tools.targets import free_port
from serving import DEFAULT_MODEL

START_TIMEOUT_S = 600.0


def main(command: Sequence[str]) -> int:
    home = REPOSITORY / ".signet" / "bench-stack"
    home.mkdir(parents=True, exist_ok=True)
    gateway, engine = free_port(), free_port()
    settings = {
        "SIGNET_HOME": str(home),
        "SIGNET_ENGINE__PORT": str(engine),
        # Benchmarks ask the engine itself too.
        "SIGNET_ENGINE__ENVIRONMENT": '{"VLLM_API_KEY": ""}',
        "SIGNET_DRIFT__ENABLED": "false",
    }
    serve = [sys.executable, "-m", "signet", "serve", "--port", str(gateway)]
    print("starting signet serve …", file=sys.stderr)
    with running("signet serve", serve, home, env=settings) as program:
        # Its word to its user that all is ready; `/readyz/engines` comes before the engine is warm.
        program.wait_said("Ctrl-C stops everything", START_TIMEOUT_S)
        known = {
            "engine": f"http://127.0.0.1:{engine}",
            "gateway": f"http://127.0.0.1:{gateway}",
            "key": (home / "first_key").read_text().strip(),
            "keyring": str(home / "keyring.json"),
            "model_folder": str(_newest(home / "registry" / DEFAULT_MODEL)),
        }
        return subprocess.run([part.format(**known) for part in command], check=False).returncode


def _newest(versions: Path) -> Path:
    return max((path for path in versions.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ProgramError as error:
        sys.exit(f"Error: {error}")
