"""Engines behind a Kubernetes Service: its EndpointSlices, listed and then watched.

lightkube supplies the credentials (the pod's own, or a kubeconfig with its plugins) and is imported when the first
source of this kind is started: a gateway that does not use it pays nothing. The gateway needs leave to `list` and
`watch` `endpointslices.discovery.k8s.io`.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.gateway.engines.discovery.slices import addresses_in
from serving.gateway.engines.discovery.source import Report
from serving.gateway.settings.engines import EngineServiceSettings

if TYPE_CHECKING:
    from httpx2 import AsyncClient, Response
    from lightkube.config.kubeconfig import SingleConfig

# The server ends a watch after this long and it is begun anew; a connection that died unseen lives no longer.
WATCH_S = 60
READ_TIMEOUT_S = WATCH_S + 15
CONNECT_TIMEOUT_S = 5
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0
# A server that ends every watch at once must not be asked without a pause.
PAUSE_S = 0.05


class WatchOutdated(Exception):
    """The server no longer knows where the watch had got to (410): list again."""


class ApiRefused(Exception):
    """The API server answered with an error status.

    Its body stays unread: it can quote credentials.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


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
        backoff = Backoff(FIRST_RETRY_S, LONGEST_RETRY_S)
        while True:
            try:
                # Reads certificates and tokens anew, which the cluster renews.
                client, namespace = await asyncio.to_thread(_connect, self.kubeconfig)
                async with client:
                    await _Watch(self.settings, namespace, client, report).run(backoff)
            except WatchOutdated:
                continue
            # The client, TLS and a kubeconfig's plugins raise all sorts; none may end the watch.
            except Exception as error:
                report.failed(_in_words(error))
                await asyncio.sleep(backoff.next_s())


class _Watch:
    """The slices of one list, and what the watch that follows it changes in them."""

    def __init__(self, settings: EngineServiceSettings, namespace: str, client: AsyncClient, report: Report) -> None:
        self._settings = settings
        self._namespace = settings.namespace or namespace
        self._client = client
        self._report = report
        self._slices: dict[str, Mapping[str, Any]] = {}

    async def run(self, backoff: Backoff) -> None:
        """List, then watch until something fails.

        Raises:
            WatchOutdated: begin again with a list.
            ApiRefused: the server does not let us.
        """
        version = await self._list()
        backoff.reset()
        while True:
            version = await self._follow(version)
            await asyncio.sleep(PAUSE_S)

    async def _list(self) -> str:
        response = await self._client.get(self._path, params=self._selector)
        _check(response)
        listed = response.json()
        self._slices = {item["metadata"]["name"]: item for item in listed["items"]}
        self._report_addresses()
        return str(listed["metadata"]["resourceVersion"])

    async def _follow(self, version: str) -> str:
        """One watch, from `version` to its regular end; returns the version it got to."""
        watch = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(WATCH_S)}
        params = {**self._selector, **watch, "allowWatchBookmarks": "true"}
        async with self._client.stream("GET", self._path, params=params) as response:
            _check(response)
            async for line in response.aiter_lines():
                if line.strip():
                    version = self._apply(json.loads(line)) or version
        return version

    @property
    def _path(self) -> str:
        return f"/apis/discovery.k8s.io/v1/namespaces/{self._namespace}/endpointslices"

    @property
    def _selector(self) -> dict[str, str]:
        settings = self._settings
        return {"labelSelector": settings.label_selector or f"kubernetes.io/service-name={settings.service}"}

    def _apply(self, event: Mapping[str, Any]) -> str:
        """Apply one event; returns the version that the watch has got to.

        Raises:
            WatchOutdated: the watch cannot go on.
        """
        kind, changed = event["type"], event["object"]
        if kind == "ERROR":
            if changed.get("code") == 410:
                raise WatchOutdated
            raise ApiRefused(int(changed.get("code") or 500))
        if kind in ("ADDED", "MODIFIED"):
            self._slices[changed["metadata"]["name"]] = changed
        elif kind == "DELETED":
            self._slices.pop(changed["metadata"]["name"], None)
        if kind != "BOOKMARK":
            self._report_addresses()
        return str(changed["metadata"].get("resourceVersion", ""))

    def _report_addresses(self) -> None:
        settings = self._settings
        host = f"{settings.service}.{self._namespace}.svc" if settings.service else None
        server_name = settings.server_name or host
        self._report.found(
            addresses_in(self._slices.values(), port=settings.port, scheme=settings.scheme, server_name=server_name)
        )


def read_config(kubeconfig: Path | None) -> SingleConfig:
    """The cluster's address and credentials: a kubeconfig's, the pod's own, or those of ~/.kube/config.

    Raises:
        Exception: whatever lightkube and the file system raise; its text may quote credentials.
    """
    from lightkube.config.kubeconfig import KubeConfig
    from lightkube.config.models import User

    known = KubeConfig.from_file(kubeconfig) if kubeconfig is not None else KubeConfig.from_env()
    config = known.get()
    assert config is not None
    return config._replace(user=User()) if config.user is None else config


def _connect(kubeconfig: Path | None) -> tuple[AsyncClient, str]:
    """A client with the cluster's credentials, and the namespace they belong to."""
    from httpx2 import Timeout
    from lightkube.config.client_adapter import AsyncClient as connect
    from lightkube.config.client_adapter import ConnectionParams

    config = read_config(kubeconfig)
    timeout = Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    return connect(config, ConnectionParams(timeout=timeout)), config.namespace


def _check(response: Response) -> None:
    if response.status_code == 410:
        raise WatchOutdated
    if response.status_code != 200:
        raise ApiRefused(response.status_code)


def _in_words(error: Exception) -> str:
    """One line without what the server has sent."""
    if not isinstance(error, ApiRefused):
        return type(error).__name__
    if error.status == 403:
        return "403: the service account may not list and watch endpointslices.discovery.k8s.io"
    return f"the API server answered {error.status}"


class Backoff:
    """Doubling waits with full jitter (M. Brooker, "Exponential Backoff And Jitter", 2015), never under `first_s`."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._ceiling_s = first_s

    def next_s(self) -> float:
        """Seconds to wait before the next attempt."""
        self._ceiling_s = min(self._ceiling_s * 2, self._longest_s)
        return random.uniform(self._first_s, self._ceiling_s)  # noqa: S311

    def reset(self) -> None:
        """It worked."""
        self._ceiling_s = self._first_s
