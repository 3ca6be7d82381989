"""One gateway process: it serves, takes on new settings, and leaves without losing an answer.

SIGTERM or SIGINT begins the end: `/readyz` fails first, then no connection is accepted, then answers under way finish,
for a bounded time. A second signal skips the waiting. SIGHUP reads the settings again.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import uvloop

from monitoring.telemetry import configure_logging
from serving.errors import SettingsError
from serving.gateway.app import GatewayApp
from serving.gateway.build import build
from serving.gateway.process.scrape import WorkerMetrics
from serving.gateway.process.workers import WorkerContext, Workers
from serving.gateway.reload import Part, Reloader, WatchedFiles
from serving.http.server import Server
from serving.settings import Settings

log = logging.getLogger(__name__)


def run(
    settings: Settings,
    load: Callable[[], Settings],
    file: Path | None,
    listeners: Sequence[socket.socket],
    on_listening: Callable[[], None],
    complain: Callable[[Exception], int],
) -> int:
    """Serve until told to stop; returns the exit code.

    Args:
        settings: what to run with.
        load: reads them again.
        file: where they came from, to be followed.
        listeners: a bound socket for each worker.
        on_listening: called once everything listens.
        complain: tells the user why a process could not start; returns its exit code.
    """
    _allow_open_files()
    if len(listeners) == 1:
        output = configure_logging(settings.telemetry)
        try:
            uvloop.run(GatewayProcess(settings, load, file).serve(listeners[0], on_listening))
        finally:
            output.stop()
        return 0
    output = configure_logging(settings.telemetry, in_thread=False)
    with ExitStack() as stack:
        # A short path, whatever SIGNET_HOME is: a Unix socket's name has 107 bytes at the most.
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="signet-")))

        def serve(worker: WorkerContext) -> int:
            output = configure_logging(settings.telemetry)
            try:
                process = GatewayProcess(settings, load, file, worker, sockets)
                uvloop.run(process.serve(worker.listener, worker.report_ready))
            except Exception as error:
                return complain(error)
            finally:
                output.stop()
            return 0

        gateway = settings.gateway
        return Workers(listeners, serve, gateway.drain_delay_s + gateway.drain_timeout_s, on_listening).run()


class GatewayProcess:
    """The process from its start to its end; `worker` is given where it is one of several."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        file: Path | None,
        worker: WorkerContext | None = None,
        sockets: Path | None = None,
    ) -> None:
        self._watched_files = WatchedFiles(partial(_files_of, file, settings))
        self._worker = worker
        self._app: GatewayApp = build(settings, self.reload)
        gateway = settings.gateway
        self._server = Server(
            self._app.served(),
            gateway.http,
            max_body_bytes=gateway.max_body_bytes,
            tls=gateway.tls,
            cors=gateway.cors,
        )
        self._reloader = Reloader(settings, load, parts_of(self._app, self._server), self._app.metrics.reloaded)
        self._metrics: WorkerMetrics | None = None
        if worker is not None and sockets is not None:
            self._metrics = WorkerMetrics(self._app.registry, sockets, worker.index, worker.count)
            self._app.exposition = self._metrics.exposition
        self._told_to_stop = asyncio.Event()
        self._told_to_hurry = asyncio.Event()

    async def serve(self, listener: socket.socket, on_listening: Callable[[], None]) -> None:
        """Until the process is told to stop, and everything is written."""
        self._heed_signals()
        if self._worker is not None and self._worker.replaces:
            self._reload_quietly()
        await self._server.start([listener])
        if self._metrics is not None:
            await self._metrics.start()
        following = asyncio.create_task(self._follow())
        _collect_less_often()
        on_listening()
        await self._told_to_stop.wait()
        following.cancel()
        await self._drain()
        if self._metrics is not None:
            await self._metrics.stop()
        await self._server.stop()

    def reload(self) -> list[str]:
        """Read the settings again and tell the other workers to; returns what changed here.

        Raises:
            SettingsError: nothing was changed.
        """
        changed = self._take_over()
        if self._worker is not None:
            os.kill(os.getppid(), signal.SIGHUP)
        return changed

    def _take_over(self) -> list[str]:
        changed = self._reloader.reload()
        try:
            self._server.renew_certificates()
        except ValueError as error:
            raise SettingsError(f"the certificates in use stay: {error}") from None
        return changed

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_quietly)
        if self._worker is None:
            loop.add_signal_handler(signal.SIGINT, self._stop)
            return
        # Ctrl-C reaches every process of the terminal: the parent alone decides.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        loop.add_reader(self._worker.parent_gone, self._parent_gone)

    def _stop(self) -> None:
        if self._told_to_stop.is_set():
            self._told_to_hurry.set()
        self._told_to_stop.set()

    def _parent_gone(self) -> None:
        assert self._worker is not None
        asyncio.get_running_loop().remove_reader(self._worker.parent_gone)
        log.error("the parent process is gone; this worker stops")
        self._told_to_stop.set()

    def _reload_quietly(self) -> None:
        # The log has said why when it fails.
        try:
            self._take_over()
        except SettingsError:
            return

    async def _follow(self) -> None:
        interval_s = self._reloader.settings.gateway.reload_interval_s
        if not interval_s or not self._watched_files.paths():
            return
        # Read by the parent, seconds ago on a busy machine; whoever changed the file since would wait for ever.
        if not self._reloader.is_current():
            self._reload_quietly()
        await self._watched_files.run(interval_s, self._reload_quietly)

    async def _drain(self) -> None:
        gateway = self._reloader.settings.gateway
        self._app.draining = True
        log.info("draining", extra={"count": self._server.num_connections})
        if gateway.drain_delay_s:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told_to_hurry.wait(), gateway.drain_delay_s)
        draining = asyncio.create_task(self._server.drain(gateway.drain_timeout_s))
        hurry = asyncio.create_task(self._told_to_hurry.wait())
        await asyncio.wait({draining, hurry}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not draining.done():
            draining.cancel()
            await self._server.drain(0)


def parts_of(app: GatewayApp, server: Server) -> list[Part]:
    """All that takes up settings while it runs; what no part names needs a restart."""

    def bound(settings: Settings) -> None:
        server.apply(settings.gateway.http)
        server.apply_cors(settings.gateway.cors)
        server.max_body_bytes = settings.gateway.max_body_bytes

    return [
        *app.parts(),
        Part(("gateway.http", "gateway.cors", "gateway.max_body_bytes"), bound),
        # Looked up by this module when they are needed.
        Part(("gateway.drain_delay_s", "gateway.drain_timeout_s", "gateway.reload_interval_s"), lambda _: None),
    ]


def _files_of(file: Path | None, settings: Settings) -> list[Path]:
    """What is read at the start and followed: the settings' file and the certificates."""
    tls = settings.gateway.tls
    return [*([file] if file is not None else []), *([tls.certificate, tls.key] if tls is not None else [])]


def _allow_open_files() -> None:
    """A connection to a client and one to an engine for each open answer: take as many files as are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _collect_less_often() -> None:
    """What was made so far stays for ever and need not be looked at again; requests leave no cycles behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
