"""The Kubernetes API, asked for objects of one namespace. Reads only."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from serving.doctor.clock import check_clock
from serving.doctor.cluster.selectors import selects
from serving.doctor.finding import Finding, NotChecked, error
from serving.gateway.engines.discovery.kubernetes import read_config
from serving.http.heads import http_date

TIMEOUT_S = 8.0
OURS = "app.kubernetes.io/part-of=signet"
COMPONENT = "app.kubernetes.io/component"
Object = Mapping[str, Any]


class ClusterApi:
    """A namespace as the API server shows it to these credentials. Safe to use from several threads.

    Raises:
        NotChecked: (constructor) there are no credentials.
    """

    def __init__(self, kubeconfig: Path | None, namespace: str | None) -> None:
        from httpx2 import Timeout
        from lightkube.config.client_adapter import Client, ConnectionParams

        try:
            config = read_config(kubeconfig)
            self._client = Client(config, ConnectionParams(timeout=Timeout(TIMEOUT_S)))
        # lightkube, TLS and a kubeconfig's plugins raise all sorts; the text may quote credentials.
        except Exception as failure:
            where = kubeconfig or "the pod's account or ~/.kube/config"
            raise NotChecked(f"no credentials in {where} ({type(failure).__name__})") from None
        self.namespace = namespace or config.namespace

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **parameters: str) -> Object | None:
        """One object or list; None where the server knows no such path.

        Raises:
            NotChecked: it does not let us, or does not answer.
        """
        response = self._ask(path, parameters)
        try:
            answer: Object | None = None if response is None else response.json()
        except ValueError:
            raise NotChecked(f"what stands behind {path.partition('/proxy')[0]} answers no JSON") from None
        return answer

    def text(self, path: str) -> str | None:
        """What something behind the server's proxy says; None where it says nothing. Raises NotChecked."""
        response = self._ask(path, {})
        return None if response is None else str(response.text)

    def items(self, resource: str, group: str = "api/v1", selector: str = "") -> list[Object]:
        """All objects of a kind in the namespace, or those with these labels; [] where there is no such kind.

        Raises:
            NotChecked: as `get`.
        """
        parameters = {"labelSelector": selector} if selector else {}
        listed = self.get(f"/{group}/namespaces/{self.namespace}/{resource}", **parameters)
        return list(listed["items"]) if listed is not None else []

    def warnings_about(self, name: str) -> str:
        """The newest warning event about an object, one line; empty where there is none."""
        listed = self.get(
            f"/api/v1/namespaces/{self.namespace}/events", fieldSelector=f"involvedObject.name={name},type=Warning"
        )
        events = sorted(listed["items"] if listed else [], key=lambda event: str(event.get("lastTimestamp") or ""))
        return one_line(events[-1].get("message")) if events else ""

    @cached_property
    def deployments(self) -> list[Object]:
        """Those of the release. Raises NotChecked."""
        return self.items("deployments", "apis/apps/v1", OURS)

    @cached_property
    def pods(self) -> list[Object]:
        """Those of the release's Deployments and Jobs. Raises NotChecked."""
        owners = [*self.deployments, *self.items("jobs", "apis/batch/v1", OURS)]
        selectors = [owner["spec"]["selector"] for owner in owners if "selector" in owner["spec"]]
        return [pod for pod in self.items("pods") if any(selects(selector, labels_of(pod)) for selector in selectors)]

    def check(self) -> Iterator[Finding]:
        """Whether the server answers, there is anything of ours, and its clock is right."""
        asked_at = time.time()
        try:
            response = self._client.get("/version")
        except Exception as failure:
            yield error(
                f"the Kubernetes API cannot be reached ({type(failure).__name__})",
                "nothing in the cluster can be looked at from here",
                "try `kubectl version`; correct the kubeconfig or its context",
            )
            return
        their_time = http_date(response.headers.get("date", ""))
        if their_time is not None:
            yield from check_clock("the Kubernetes API", their_time + 0.5, asked_at, time.time())
        if not self.deployments:
            yield error(
                f"there is no release of Signet in the namespace {self.namespace!r}",
                "there is nothing to look at",
                "name its namespace with --namespace: `helm list -A` shows releases",
            )

    def _ask(self, path: str, parameters: Mapping[str, str]) -> Any:
        what = path.rpartition("/")[2]
        try:
            response = self._client.get(path, params=parameters)
        except Exception as failure:
            raise NotChecked(f"the API server does not answer ({type(failure).__name__})") from None
        if response.status_code == 404:
            return None
        if response.status_code in (401, 403):
            raise NotChecked(f"these credentials may not read {what} ({response.status_code})")
        if response.status_code != 200:
            raise NotChecked(f"the API server answered {response.status_code} for {what}")
        return response


def name_of(item: Object) -> str:
    """`metadata.name`."""
    return str(item["metadata"]["name"])


def labels_of(item: Object) -> dict[str, str]:
    """`metadata.labels`."""
    return dict(item["metadata"].get("labels") or {})


def conditions_of(item: Object) -> dict[str, Object]:
    """`status.conditions` by their type."""
    return {condition["type"]: condition for condition in (item.get("status") or {}).get("conditions") or ()}


def one_line(text: str | None) -> str:
    """A message of the cluster's, as part of a sentence."""
    line = " ".join((text or "").split()).rstrip(".")
    return line if len(line) <= 300 else line[:297] + "..."
