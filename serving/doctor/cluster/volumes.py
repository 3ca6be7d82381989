"""Volume claims that no volume is found for, and volumes that are nearly full."""

from __future__ import annotations

from collections.abc import Iterator

from serving.doctor.cluster.api import OURS, ClusterApi, name_of
from serving.doctor.finding import Finding, error
from serving.doctor.volume import judge_volume


def check_volumes(api: ClusterApi) -> Iterator[Finding]:
    """The claims of the release, and how full their volumes are by the nodes' own statistics."""
    claims = {name_of(claim): claim for claim in api.items("persistentvolumeclaims", selector=OURS)}
    for name, claim in claims.items():
        phase = (claim.get("status") or {}).get("phase")
        if phase != "Bound":
            reason = api.warnings_about(name) or "no volume fits it yet"
            yield error(
                f"the volume claim {name} is {str(phase).lower()}: {reason}",
                "the pods that mount it stay pending",
                "set a storage class that can make it, and access modes that this class has",
            )
    used = {
        volume["persistentVolumeClaim"]["claimName"]
        for pod in api.pods
        for volume in pod["spec"].get("volumes") or ()
        if "persistentVolumeClaim" in volume
    }
    if used:
        yield from _fullness(api, used)


def _fullness(api: ClusterApi, claims: set[str]) -> Iterator[Finding]:
    told: set[str] = set()
    for node in sorted({pod["spec"]["nodeName"] for pod in api.pods if pod["spec"].get("nodeName")}):
        summary = api.get(f"/api/v1/nodes/{node}/proxy/stats/summary") or {}
        for pod in summary.get("pods") or ():
            for volume in pod.get("volume") or ():
                claim = volume.get("pvcRef") or {}
                name = claim.get("name")
                if claim.get("namespace") == api.namespace and name in claims - told:
                    told.add(name)
                    yield from judge_volume(
                        f"the volume of claim {name}", volume["availableBytes"], volume["capacityBytes"]
                    )
