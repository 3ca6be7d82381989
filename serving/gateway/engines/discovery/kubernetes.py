"""Engines behind a Kubernetes Service: its EndpointSlices, listed and then watched in a thread.

The `kubernetes` client supplies credentials (the pod's own, or a kubeconfig with its plugins) and is imported when
the first source of this kind is started: a gateway that does not use it pays nothing. The gateway needs leave to
`list` and `watch` `endpointslices.discovery.k8s.io`.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.gateway.engines.discovery.backoff import Backoff
from serving.gateway.engines.discovery.slices import addresses_in
from serving.gateway.engines.discovery.source import Report
from serving.gateway.engines.settings import EngineServiceSettings

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
# The server ends a watch after this long and it is begun anew; a connection that died unseen lives no longer.
WATCH_S = 60
READ_TIMEOUT_S = WATCH_S + 15
CONNECT_TIMEOUT_S = 5
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0


class WatchOutdated(Exception):
    """The server no longer knows where the watch had got to (410): list again."""


@dataclass(frozen=True)
class KubernetesSource:
    """Watches the EndpointSlices of one Service, or those that a label selector names."""

    settings: EngineServiceSettings
    kubeconfig: Path | None = None

    @property
    def label(self) -> str:
        settings = self.settings
        port = f":{settings.port}" if settings.port is not None else ""
        return f"kubernetes:{settings.namespace or ''}/{settings.service or settings.label_selector}{port}"

    async def run(self, report: Report) -> None:
        watch = _Watch(self.settings, self.kubeconfig, report, asyncio.get_running_loop())
        thread = threading.Thread(target=watch.run, name=self.label, daemon=True)
        thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            watch.stop()


class _Watch:
    """The thread's side. Reports by the event loop; nothing else is shared."""

    def __init__(
        self,
        settings: EngineServiceSettings,
        kubeconfig: Path | None,
        report: Report,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._settings = settings
        self._kubeconfig = kubeconfig
        self._report = report
        self._loop = loop
        self._stopped = threading.Event()
        self._response: Any = None
        self._slices: dict[str, Mapping[str, Any]] = {}
        self._namespace = "default"

    def stop(self) -> None:
        """End the thread, also in the middle of a read."""
        self._stopped.set()
        response = self._response
        if response is not None:
            # The read may end by itself at this very moment.
            with suppress(ValueError, RuntimeError, OSError):
                response.shutdown()

    def run(self) -> None:
        backoff = Backoff(FIRST_RETRY_S, LONGEST_RETRY_S)
        while not self._stopped.is_set():
            try:
                self._list_and_watch(backoff)
            except WatchOutdated:
                continue
            # The client, urllib3 and a kubeconfig's plugins raise all sorts; none may end the watch.
            except Exception as error:
                if not self._stopped.is_set():
                    self._tell(self._report.failed, _in_words(error))
                    self._stopped.wait(backoff.next_s())

    def _list_and_watch(self, backoff: Backoff) -> None:
        api = self._connect()
        version = self._list(api)
        backoff.reset()
        while not self._stopped.is_set():
            for event in self._events(api, version):
                version = self._take(event) or version
            # The stream's regular end; a server that ends it at once must not be asked without a pause.
            self._stopped.wait(0.05)

    def _connect(self) -> Any:
        from kubernetes import client, config

        settings = self._settings
        configuration = client.Configuration()
        if self._kubeconfig is None and NAMESPACE_FILE.exists():
            config.load_incluster_config(client_configuration=configuration)
            own = NAMESPACE_FILE.read_text().strip()
        else:
            file = str(self._kubeconfig) if self._kubeconfig is not None else None
            config.load_kube_config(config_file=file, client_configuration=configuration)
            _, active = config.list_kube_config_contexts(config_file=file)
            own = active["context"].get("namespace", "default")
        # Retries are ours to do, with what is told in between.
        configuration.retries = False
        self._namespace = settings.namespace or own
        return client.DiscoveryV1Api(client.ApiClient(configuration))

    def _ask(self, api: Any, **options: Any) -> Any:
        settings = self._settings
        return api.list_namespaced_endpoint_slice(
            self._namespace,
            label_selector=settings.label_selector or f"kubernetes.io/service-name={settings.service}",
            _preload_content=False,
            _request_timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
            **options,
        )

    def _list(self, api: Any) -> str:
        response = self._ask(api)
        found = json.loads(response.data)
        self._slices = {each["metadata"]["name"]: each for each in found["items"]}
        self._tell_addresses()
        return str(found["metadata"]["resourceVersion"])

    def _events(self, api: Any, version: str) -> Iterator[dict[str, Any]]:
        response = self._ask(
            api, watch=True, resource_version=version, timeout_seconds=WATCH_S, allow_watch_bookmarks=True
        )
        self._response = response
        try:
            rest = b""
            for data in response.stream(amt=None, decode_content=True):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield json.loads(line)
        finally:
            self._response = None
            response.release_conn()

    def _take(self, event: dict[str, Any]) -> str:
        """Apply one event; returns the version that the watch has got to.

        Raises:
            WatchOutdated: the watch cannot go on.
        """
        kind, found = event["type"], event["object"]
        if kind == "ERROR":
            if found.get("code") == 410:
                raise WatchOutdated
            raise RuntimeError(f"the watch failed: {found.get('reason', 'unknown reason')}")
        if kind in ("ADDED", "MODIFIED"):
            self._slices[found["metadata"]["name"]] = found
        elif kind == "DELETED":
            self._slices.pop(found["metadata"]["name"], None)
        if kind != "BOOKMARK":
            self._tell_addresses()
        return str(found["metadata"].get("resourceVersion", ""))

    def _tell_addresses(self) -> None:
        settings = self._settings
        named = f"{settings.service}.{self._namespace}.svc" if settings.service else None
        addresses = addresses_in(
            self._slices.values(), port=settings.port, scheme=settings.scheme, server_name=settings.server_name or named
        )
        self._tell(self._report.found, addresses)

    def _tell(self, what: Any, value: Any) -> None:
        if not self._stopped.is_set() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, what, value)

    def _deliver(self, what: Any, value: Any) -> None:
        # Between the call and now the source may have been stopped.
        if not self._stopped.is_set():
            what(value)


def _in_words(error: Exception) -> str:
    """One line without what the server has sent: its answers can quote credentials."""
    status, reason = getattr(error, "status", None), getattr(error, "reason", None)
    if status == 403:
        return "403: the service account may not list and watch endpointslices.discovery.k8s.io"
    if status:
        return f"the API server answered {status} {reason or ''}".rstrip()
    return type(error).__name__
