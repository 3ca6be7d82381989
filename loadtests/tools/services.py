"""Real PostgreSQL and Redis (or Valkey) servers: private, on free ports, killed and brought back at will.

with Postgres.run() as database:
    open_engine(database.url)
    database.kill(); database.start()
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import psycopg

from loadtests.tools.processes import ProgramError
from loadtests.tools.targets import free_port

INSTALL = "python deploy/services.py"


def program(*names: str) -> str:
    """The first of these programs on this machine.

    Raises:
        FileNotFoundError: none is there; says how to install them.
    """
    folders = [*os.environ["PATH"].split(os.pathsep), "/usr/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    for name in names:
        if found := shutil.which(name, path=os.pathsep.join(folders)):
            return found
    raise FileNotFoundError(f"none of {', '.join(names)} is installed: run `{INSTALL}`")


class Service(ABC):
    """One server process with a folder and a port of its own, which outlive a kill."""

    start_timeout_s = 30.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextmanager
    def run(cls) -> Iterator[Self]:
        """A started server, gone with its data afterwards."""
        folder = Path(tempfile.mkdtemp(prefix=f"signet-{cls.__name__.lower()}-"))
        folder.chmod(0o755)
        service = cls(folder)
        try:
            service.prepare()
            service.start()
            yield service
        finally:
            service.kill()
            shutil.rmtree(folder, ignore_errors=True)

    @abstractmethod
    def prepare(self) -> None:
        """Make the data folder."""

    @abstractmethod
    def command(self) -> list[str]:
        """What starts the server."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it answers."""

    def user(self) -> str | None:
        """Whom to run as; None: as ourselves."""
        return None

    def start(self) -> None:
        """Start, or start again after a kill, with the data it had. Raises ProgramError."""
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, user=self.user(), cwd=self.folder, start_new_session=True
            )
        deadline = time.monotonic() + self.start_timeout_s
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ProgramError(f"{type(self).__name__} does not answer: see {log.name}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it without warning, with every process it has."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
        self.process = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes: SIGSTOP makes it hang."""
        if self.process is None or self.process.poll() is not None:
            return
        # PostgreSQL's backends lead sessions of their own, so a process group would miss them.
        backends = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in (self.process.pid, *map(int, backends)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


class Postgres(Service):
    """PostgreSQL with one database, `signet`."""

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://signet:secret@127.0.0.1:{self.port}/signet"

    @property
    def dsn(self) -> str:
        return self.url.replace("+psycopg", "")

    def user(self) -> str | None:
        # PostgreSQL refuses to run as root.
        if os.geteuid() != 0:
            return None
        names = {entry.pw_name for entry in pwd.getpwall()}
        return "postgres" if "postgres" in names else "nobody"

    def prepare(self) -> None:
        if user := self.user():
            shutil.chown(self.folder, user)
        password = self.folder / "password"
        password.write_text("secret\n")
        password.chmod(0o644)
        arguments = ["--username=signet", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync", "--locale=C"]
        subprocess.run(
            [program("initdb"), "--encoding=UTF8", *arguments, str(self.folder / "data")],
            check=True,
            capture_output=True,
            user=self.user(),
            cwd=self.folder,
        )

    def command(self) -> list[str]:
        data = self.folder / "data"
        # After a kill the old pid file may name a process number that another program has by now.
        (data / "postmaster.pid").unlink(missing_ok=True)
        # What a killed server has written the kernel still writes to the disk; only a machine that stops loses it.
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.folder), "fsync": "off"}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [program("postgres"), "-D", str(data), "-p", str(self.port), *settings]

    def ready(self) -> bool:
        try:
            maintenance = self.dsn.rpartition("/")[0] + "/postgres"
            with psycopg.connect(maintenance, autocommit=True, connect_timeout=2) as server:
                if not server.execute("SELECT 1 FROM pg_database WHERE datname = 'signet'").fetchone():
                    server.execute("CREATE DATABASE signet")
            return True
        except psycopg.OperationalError:
            return False

    def reset(self) -> None:
        """An empty database again."""
        with psycopg.connect(self.dsn, autocommit=True) as server:
            server.execute("DROP SCHEMA public CASCADE")
            server.execute("CREATE SCHEMA public")


class Redis(Service):
    """Redis or Valkey, whichever is installed; keeps nothing on disk."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        """It keeps nothing on disk."""

    def command(self) -> list[str]:
        server = program("valkey-server", "redis-server")
        return [server, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]

    def ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
