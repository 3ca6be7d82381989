"""Pods that do not run, do not become ready or keep dying, with the cluster's own reason."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

from serving.doctor.cluster.api import ClusterApi, Object, conditions_of, name_of, one_line
from serving.doctor.finding import Finding, error, warning

# Of a container that has started: its model is loaded, its gateway listens.
_READY_AFTER_S = 120.0
_MANY_RESTARTS = 5
_WHY = "it takes no requests, and the others have to answer for it"
_FIXES = {
    "CrashLoopBackOff": "read why it ended: kubectl logs {pod} -c {container} --previous",
    "ImagePullBackOff": "correct the image's name and tag, or the pull secret",
    "ErrImagePull": "correct the image's name and tag, or the pull secret",
    "InvalidImageName": "correct the image's name and tag",
    "CreateContainerConfigError": "make the Secret or ConfigMap that is named, or correct its name in the values",
}
_STARTING = frozenset({"ContainerCreating", "PodInitializing"})


def check_pods(api: ClusterApi) -> Iterator[Finding]:
    """Pods and Deployments of the release."""
    for pod in api.pods:
        yield from _pod(api, pod)
    for deployment in api.deployments:
        yield from _deployment(deployment)


def _pod(api: ClusterApi, pod: Object) -> Iterator[Finding]:
    name, status = name_of(pod), pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return
    if status.get("phase") == "Failed":
        yield warning(
            f"pod {name} has failed: {_reason(status)}",
            "another one has taken its place, which may fail likewise",
            f"kubectl describe pod {name}; give it the memory or disk it asks for, then delete it",
        )
        return
    scheduled = conditions_of(pod).get("PodScheduled")
    if scheduled is not None and scheduled["status"] == "False":
        yield error(
            f"pod {name} is pending: {_reason(scheduled)}",
            "no node takes it, so it will never run as things are",
            "add a node with what it asks for, or change its resources, nodeSelector, tolerations or volume",
        )
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        yield from _container(api, name, container)
    yield from _readiness(name, pod)


def _container(api: ClusterApi, pod: str, container: Object) -> Iterator[Finding]:
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason = waiting.get("reason")
    ended = (container.get("lastState") or {}).get("terminated") or {}
    name = container["name"]
    if reason in _STARTING:
        message = api.warnings_about(pod)
        if message:
            yield error(
                f"container {name} of pod {pod} cannot start: {message}",
                _WHY,
                "make what is missing, or correct its name in the values",
            )
    elif reason:
        yield error(
            f"container {name} of pod {pod} does not run: {_reason(waiting)}{_how_it_ended(ended)}",
            _WHY,
            _FIXES.get(reason, "kubectl describe pod {pod}").format(pod=pod, container=name),
        )
    elif ended.get("reason") == "OOMKilled":
        yield warning(
            f"container {name} of pod {pod} was killed because its memory ran out",
            "it restarts under load, and the answers it had were cut or continued elsewhere",
            "raise its memory limit, or lower engine.kv_cache_gb and gateway.http.max_buffered_bytes",
        )
    elif container.get("restartCount", 0) >= _MANY_RESTARTS:
        yield warning(
            f"container {name} of pod {pod} has restarted {container['restartCount']} times{_how_it_ended(ended)}",
            "the answers it had were cut or continued elsewhere",
            f"read why it ended: kubectl logs {pod} -c {name} --previous",
        )


def _readiness(name: str, pod: Object) -> Iterator[Finding]:
    containers = (pod.get("status") or {}).get("containerStatuses") or ()
    ready = conditions_of(pod).get("Ready")
    if ready is None or ready["status"] == "True" or not containers:
        return
    if all(container.get("started") and "running" in (container.get("state") or {}) for container in containers):
        seconds = time.time() - _moment(ready.get("lastTransitionTime"))
        if seconds > _READY_AFTER_S:
            yield error(
                f"pod {name} runs and has not been ready for {seconds / 60:.0f} minutes: {_reason(ready)}",
                _WHY,
                f"kubectl describe pod {name} shows what its readiness probe gets; kubectl logs {name} the reason",
            )


def _deployment(deployment: Object) -> Iterator[Finding]:
    conditions = conditions_of(deployment)
    progressing, failure = conditions.get("Progressing"), conditions.get("ReplicaFailure")
    if progressing is not None and progressing["status"] == "False":
        yield error(
            f"the rollout of {name_of(deployment)} does not go on: {_reason(progressing)}",
            "old pods go on to answer, and the change is not in force",
            f"look at its new pods, then correct the values; kubectl rollout undo deployment/{name_of(deployment)}",
        )
    if failure is not None and failure["status"] == "True":
        yield error(
            f"pods of {name_of(deployment)} cannot be made: {_reason(failure)}",
            "there are fewer than wanted",
            "raise the namespace's quota, or correct what its admission refuses",
        )


def _reason(said: Object) -> str:
    reason, message = one_line(said.get("reason")), one_line(said.get("message"))
    return ": ".join(part for part in (reason, message) if part) or "the cluster gives no reason"


def _how_it_ended(ended: Object) -> str:
    if not ended:
        return ""
    return f"; it last ended with {ended.get('reason', 'no reason')}, exit code {ended.get('exitCode')}"


def _moment(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() if text else time.time()
