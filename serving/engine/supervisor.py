"""`signet serve`: a model, an engine and the gateway, brought up together and taken down together."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from serving.engine.address import Address, free_port, require_free
from serving.engine.command import engine_command, engine_environment, live_adapters
from serving.engine.errors import EngineError
from serving.engine.first_answer import first_request, warm_up
from serving.engine.memory import free_memory, require_memory
from serving.engine.process import State, SupervisedProcess
from serving.engine.processor import require_kernels
from serving.engine.resolve import ModelSource, resolve
from serving.engine.terminal import Terminal
from serving.identity import Identity, ensure_first_key
from serving.provenance import Keyring
from serving.settings import Settings

STEP_SECONDS = 0.1
GATEWAY_START_SECONDS = 60.0
# The gateway looks at its engines every second or so (gateway.probe_interval_s).
ROUTE_SECONDS = 10.0
# Ctrl-C to nothing left takes ten seconds at most: answers under way get the first part, the engine the second.
GATEWAY_STOP_SECONDS = 4.0
ENGINE_STOP_SECONDS = 4.0

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(BaseException):
    """The user or the system asked us to stop. Like KeyboardInterrupt, no error."""


class Supervisor:
    """Runs everything that `signet serve` is made of, in the order in which it is written in `run`."""

    def __init__(self, settings: Settings, terminal: Terminal, config: Path | None = None) -> None:
        self.settings = settings
        self.terminal = terminal
        self.address = Address(settings.gateway.host, settings.gateway.port or free_port(settings.gateway.host))
        self._config = config
        self._programs: list[SupervisedProcess] = []
        self._first_key: str | None = None
        # Other users of this machine reach the engine's port too: without a key, past limits, guard and ledger.
        self._engine_key = settings.engine_key or secrets.token_urlsafe(32)

    def run(self) -> None:
        """Bring everything up and keep it up until told to stop. Raises EngineError and its kin, one line each."""
        with stop_on_signals(), TemporaryDirectory(prefix="signet-") as sockets:
            try:
                require_free(self.address.host, self.address.port, "--port")
                source = self._prepare()
                engine, gateway = self._build(source, sockets)
                self._start(engine, gateway, source)
                if self.settings.drift.enabled:
                    self._start_drift(source)
                self._announce(source)
                self._supervise(engine, gateway, source)
            except StopRequested:
                self.terminal.busy("signet", "stopping")
            finally:
                self._stop()
        self.terminal.done("signet", "stopped")

    def _prepare(self) -> ModelSource:
        """The slow steps that need no server: find, make and verify the model."""
        settings, terminal = self.settings, self.terminal
        terminal.busy("model", "looking for the model")
        source = resolve(
            settings.engine.model, settings, lambda what, done, total: terminal.busy("model", what, done, total)
        )
        if source.checkpoint is not None and source.warning is None:
            terminal.done("model", f"{source.checkpoint.ref}, signature and every byte verified")
        if source.warning is not None:
            terminal.warn("model", source.warning)
        require_kernels(source, settings.engine)
        require_memory(source, settings.engine, free_memory())
        Keyring.open(settings.keyring_file, create=True)
        return source

    def _build(self, source: ModelSource, sockets: str) -> tuple[SupervisedProcess, SupervisedProcess]:
        """`sockets`: the folder for those of vLLM's processes; one that is killed leaves them."""
        settings, logs = self.settings, self.settings.home / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        address = Address("127.0.0.1", settings.engine.port or free_port())
        traces = traces_endpoint(settings)
        # The gateway has let answers finish before the engine is told to stop, and vLLM waits in any case.
        options = settings.engine.model_copy(update={"drain_s": min(settings.engine.drain_s, 1)})
        engine = SupervisedProcess(
            "engine",
            engine_command(source, address, options, settings.keyring_file, traces),
            {"VLLM_RPC_BASE_PATH": sockets}
            | engine_environment(options, os.environ, traces, self._engine_key, live_adapters(source, settings)),
            address,
            "/health",
            _fresh_log(logs / "engine.log"),
            settings.engine.start_timeout_s,
            ENGINE_STOP_SECONDS,
            before_restart=source.verify_again,
        )
        gateway = SupervisedProcess(
            "gateway",
            [
                *(sys.executable, "-P", "-m", "signet", "gateway"),
                *("--host", self.address.host, "--port", str(self.address.port)),
                *("--engine-url", address.url, "--model-folder", f"{source.served_name}={source.path}"),
            ],
            self._own_environment(),
            self.address,
            "/healthz",
            _fresh_log(logs / "gateway.log"),
            GATEWAY_START_SECONDS,
            grace_seconds=GATEWAY_STOP_SECONDS,
        )
        return engine, gateway

    def _start(self, engine: SupervisedProcess, gateway: SupervisedProcess, source: ModelSource) -> None:
        """Start all programs. The gateway is up long before the engine, and says so to whoever asks meanwhile."""
        require_free(engine.address.host, engine.address.port, "engine.port")
        self._programs = [gateway, engine]
        self.terminal.busy("gateway", "starting")
        # The first key, before the gateway looks for keys.
        self._first_key = self._make_first_key()
        gateway.start()
        engine.start()
        while gateway.step() is not State.READY:
            time.sleep(STEP_SECONDS)
        self.terminal.done("gateway", f"listens on {self.address.url}; answers 503 until the engine is ready")
        started = time.monotonic()
        while engine.step() is not State.READY:
            gateway.step()
            self.terminal.busy("engine", engine.phase)
            time.sleep(STEP_SECONDS)
        self.terminal.busy("engine", "answering for the first time")
        warm_up(engine.address, source, self._engine_key)
        self._wait_for_route(gateway)
        self.terminal.done("engine", f"ready after {time.monotonic() - started:.0f} s")

    def _wait_for_route(self, gateway: SupervisedProcess) -> None:
        """Until the gateway has seen that the engine is ready: who pastes the request at once must not get 503."""
        deadline = time.monotonic() + ROUTE_SECONDS
        while gateway.probe("/readyz/engines") != HTTPStatus.OK and time.monotonic() < deadline:
            gateway.step()
            time.sleep(STEP_SECONDS)

    def _start_drift(self, source: ModelSource) -> None:
        """The drift worker is a spectator: when it cannot run, everything else does."""
        drift = self.settings.drift
        reference = drift.reference or (source.checkpoint.ref if source.checkpoint is not None else None)
        if reference is None:
            self.terminal.warn("drift", "not watched: the model has no manifest that could hold a reference")
            return
        address = Address(drift.host, drift.port or free_port(drift.host))
        worker = SupervisedProcess(
            "drift worker",
            [
                *(sys.executable, "-P", "-m", "signet", "drift", "--watch"),
                *("--reference", reference, "--port", str(address.port)),
            ],
            self._own_environment(),
            address,
            "/metrics",
            _fresh_log(self.settings.home / "logs" / "drift.log"),
            grace_seconds=1.0,
        )
        self._programs.insert(0, worker)
        worker.start()
        try:
            while worker.step() is not State.READY:
                time.sleep(STEP_SECONDS)
        except EngineError as error:
            self._programs.remove(worker)
            self.terminal.warn("drift", str(error))
        else:
            self.terminal.done("drift", f"metrics on {address.url}/metrics")

    def _supervise(self, engine: SupervisedProcess, gateway: SupervisedProcess, source: ModelSource) -> None:
        """Watch until a signal ends it, and say what happens to the programs."""
        before = {program: program.state for program in self._programs}
        while True:
            for program in tuple(self._programs):
                state = self._step(program)
                if state is not before.get(program, state):
                    if state is State.READY:
                        if program is engine:
                            warm_up(engine.address, source, self._engine_key)
                        self._wait_for_route(gateway)
                    self._tell(program)
                before[program] = state
            if engine.state is State.STARTING:
                self.terminal.busy("engine", engine.phase)
            time.sleep(STEP_SECONDS)

    def _step(self, program: SupervisedProcess) -> State:
        try:
            return program.step()
        except EngineError as error:
            if program.name in ("engine", "gateway"):
                raise
            self._programs.remove(program)
            self.terminal.warn(program.name, str(error))
            return State.STOPPED

    def _tell(self, program: SupervisedProcess) -> None:
        if program.state is State.WAITING:
            self.terminal.warn(program.name, f"died: {program.last_death}. It is started again")
        elif program.state is State.READY:
            self.terminal.done(program.name, "ready again")

    def _stop(self) -> None:
        """Stop everything, the gateway first, so that answers under way can finish; then leave no process."""
        for program in self._programs:
            if program.name != "engine" or program.state is not State.READY:
                program.terminate()
        for program in self._programs:
            program.terminate()
            program.wait(ENGINE_STOP_SECONDS if program.name == "engine" else GATEWAY_STOP_SECONDS)

    def _make_first_key(self) -> str | None:
        identity = Identity(self.settings.database_url)
        try:
            return ensure_first_key(identity, self.settings.home / "first_key")
        finally:
            identity.close()

    def _announce(self, source: ModelSource) -> None:
        """Everything needed for a first request, to be pasted as it is."""
        key = self._first_key
        say = self.terminal.say
        say()
        say(f"  Signet serves {source.served_name} on {self.address.url}/v1")
        say(f"  API key  {key or 'make one with: signet keys create --tenant NAME'}")
        say()
        path, first = first_request(source.path)
        body = {"model": source.served_name} | first
        say(
            f"curl {self.address.url}{path} -H 'Authorization: Bearer {key or 'YOUR_KEY'}' "
            f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'"
        )
        say()
        say(f"  Logs in {self.settings.home / 'logs'}. Ctrl-C stops everything.")
        say()

    def _own_environment(self) -> dict[str, str]:
        """The environment of our own programs: they read the same settings as we did."""
        drain = min(self.settings.gateway.drain_timeout_s, GATEWAY_STOP_SECONDS - 0.5)
        environment = os.environ | {
            "SIGNET_GATEWAY__DRAIN_TIMEOUT_S": str(drain),
            "SIGNET_HOME": str(self.settings.home),
            "SIGNET_GATEWAY__ENGINE_API_KEY": self._engine_key,
        }
        return environment | ({"SIGNET_CONFIG": str(self._config)} if self._config else {})


def traces_endpoint(settings: Settings) -> str | None:
    """Where the engine sends its traces: to the gateway's collector, so that both ends of a request meet."""
    base = settings.telemetry.otlp_endpoint
    return f"{base.rstrip('/')}/v1/traces" if base else None


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and a closed terminal into StopRequested, wherever the main thread is.

    A second one ends us at once: the watchdogs then kill all that we started.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in wanted:
            signal.signal(number, lambda *_: os._exit(130))
        raise StopRequested

    # Under nohup the terminal may close. (SIGINT is taken even where a script's shell has us ignore it.)
    wanted = [
        number for number in STOP_SIGNALS if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, stop) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fresh_log(path: Path) -> Path:
    """Keep the log of the run before as `NAME.1`, so that a log never grows over many runs."""
    if path.exists():
        path.replace(path.with_name(path.name + ".1"))
    return path
