"""A real gateway process, started and stopped by tests."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import openai
from click.testing import CliRunner

from serving.identity import Identity
from serving.identity.cli import keys
from serving.settings import load_settings
from tests.support.forked import ForkedSignet
from tests.support.running import answers_ok, free_port, signet_environment, wait_until


@dataclass(frozen=True)
class RunningGateway:
    url: str
    home: Path
    key: str
    process: subprocess.Popen[bytes] | ForkedSignet
    clients: list[openai.OpenAI] = field(default_factory=list)
    """Closed with the gateway: one left to the garbage collector would fail whichever test it is collected in."""

    def client(self, key: str | None = None) -> openai.OpenAI:
        made = openai.OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, max_retries=0, timeout=30)
        self.clients.append(made)
        return made

    def new_key(self, *options: str, tenant: str = "acme", **settings: str) -> str:
        key = create_key(self.home, "--tenant", tenant, *options, **settings)
        wait_until(lambda: self.knows(key), 5, "the gateway knows the new key")
        return key

    def knows(self, key: str) -> bool:
        try:
            self.client(key).models.list()
        except openai.AuthenticationError:
            return False
        return True


@cache
def _empty_database() -> bytes:
    """An SQLite database with its tables, as a gateway's first start makes it: in a tenth of a second."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "signet.db"
        Identity(f"sqlite:///{file}").close()
        return file.read_bytes()


def prepare_database(home: Path) -> None:
    """Give a home the tables of a first start."""
    if not (home / "signet.db").exists():
        (home / "signet.db").write_bytes(_empty_database())


def create_key(home: Path, *options: str, **settings: str) -> str:
    """`signet keys create` in this process: one of its own would take seconds to begin, a hundred times in a run."""
    file = home / "signet.yaml"
    load = partial(load_settings, file if file.exists() else None, environment=signet_environment(home, **settings))
    created = CliRunner().invoke(keys, ["create", "--json", *options], obj=load)
    assert created.exit_code == 0, created.output
    key: str = json.loads(created.stdout)["key"]
    return key


def start_gateway(
    home: Path, *engine_urls: str, as_program: bool = False, key: str | None = None, **settings: str
) -> RunningGateway:
    """A gateway that listens. `as_program`: where what is tested is how the command starts, or its processes.

    `key`: where the database is not there to make one.
    """
    port = free_port()
    if "SIGNET_DATABASE__URL" not in settings:
        prepare_database(home)
    key = key or create_key(home, "--tenant", "default", "--admin", **settings)
    arguments = [part for url in engine_urls for part in ("--engine-url", url)]
    command = ["gateway", "--port", str(port), *arguments]
    environment = signet_environment(home, SIGNET_GATEWAY__PROBE_INTERVAL_S="0.1", **settings)
    process: subprocess.Popen[bytes] | ForkedSignet
    if as_program:
        with (home / "gateway.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "signet", *command],
                env=environment,
                cwd=home,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
    else:
        process = ForkedSignet(command, environment, home, home / "gateway.log")
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: answers_ok(f"{url}/healthz"), 60, "the gateway listens", process)
    return RunningGateway(url, home, key, process)


def stop_gateway(gateway: RunningGateway) -> int:
    for client in gateway.clients:
        client.close()
    gateway.process.terminate()
    return gateway.process.wait(15)
